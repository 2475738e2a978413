"""Losses: (prediction, target), both (B, C, h, w), to one float32 number per sample (B,)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]


def mse(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean squared error in float32, whatever the dtype of the forward pass."""
    error = prediction.float() - target.float()
    return error.square().flatten(1).mean(1)


def weighted_mean(losses: "Tensor", weights: "Tensor") -> "Tensor":
    """The loss of a micro-batch: each sample's loss (B,) times its weight (B,), averaged over B."""
    return (losses * weights).mean()


LOSSES: "dict[str, Loss]" = {"mse": mse}
