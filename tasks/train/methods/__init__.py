"""Training methods: which weights train, and how they are saved and put back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.train.methods import full, lora

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One training method as a record of functions."""

    name: str
    weights_file: str
    """Name of its weights in a backup."""
    prepare: "Callable[..., Sequence[torch.nn.Parameter]]"
    """(denoiser, settings, family, seed) to the trained parameters, float32, in a fixed order."""
    state: "Callable[[Any], dict[str, Tensor]]"
    """(denoiser) to the trained weights."""
    restore: "Callable[[Any, Mapping[str, Tensor]], None]"
    """(denoiser, trained weights): the inverse of `state`; ValueError when they do not fit."""
    frozen_dtype_is_train_dtype: bool
    """Whether weights that do not train may be in the dtype of the forward pass."""


METHODS = {
    "full": Method(
        name="full",
        weights_file="denoiser.safetensors",
        prepare=full.prepare,
        state=full.state,
        restore=full.restore,
        frozen_dtype_is_train_dtype=False,
    ),
    "lora": Method(
        name="lora",
        weights_file="adapter.safetensors",
        prepare=lora.prepare,
        state=lora.state,
        restore=lora.restore,
        frozen_dtype_is_train_dtype=True,
    ),
}
