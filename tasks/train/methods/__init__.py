"""Training methods: which weights of a module train, and how they are saved and put back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.train.methods import adapters, full

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One training method as a record of functions on a module."""

    prepare: "Callable[[Any, Any, Sequence[str], int], Sequence[torch.nn.Parameter]]"
    """(module, settings, names of layers, seed) to the trained parameters in a fixed order."""
    state: "Callable[[Any], dict[str, Tensor]]"
    """(module) to the trained weights."""
    restore: "Callable[[Any, Mapping[str, Tensor]], None]"
    """(module, trained weights): the inverse of `state`; ValueError when they do not fit."""


FULL = Method(prepare=full.prepare, state=full.state, restore=full.restore)
ADAPTER = Method(
    prepare=adapters.prepare,
    state=adapters.state,
    restore=adapters.restore,
)
METHODS = {"full": FULL, "lora": ADAPTER, "loha": ADAPTER, "lokr": ADAPTER}
"""The kind `embedding` is not here: it trains no weights of a module."""
