"""Full fine-tuning: the weights of a module train themselves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def prepare(
    module: Any, settings: Any, layers: Sequence[str], seed: int
) -> "Sequence[torch.nn.Parameter]":
    """Makes the layers' own weights trainable."""
    module.requires_grad_(False)
    for name in layers:
        for parameter in module.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(True)
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def state(module: Any) -> "dict[str, Tensor]":
    """All weights."""
    weights: dict[str, Tensor] = module.state_dict()
    return weights


def restore(module: Any, weights: "Mapping[str, Tensor]") -> None:
    """Puts all weights back; a missing or unknown one is an error."""
    module.load_state_dict(weights, strict=True)
