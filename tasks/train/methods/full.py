"""Full fine-tuning: all weights of the denoiser train, in float32."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.config.methods import FullMethod
from tasks.families.base import Family

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def prepare(
    denoiser: Any, settings: FullMethod, family: Family, seed: int
) -> "Sequence[torch.nn.Parameter]":
    """Makes all weights trainable."""
    denoiser.float().requires_grad_(True)
    return [parameter for _, parameter in denoiser.named_parameters()]


def state(denoiser: Any) -> "dict[str, Tensor]":
    """All weights."""
    weights: dict[str, Tensor] = denoiser.state_dict()
    return weights


def restore(denoiser: Any, weights: "Mapping[str, Tensor]") -> None:
    """Puts all weights back; a missing or unknown one is an error."""
    denoiser.load_state_dict(weights, strict=True)
