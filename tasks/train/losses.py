"""Losses: what a prediction costs, to one float32 number per sample (B,)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.config.objectives import LossConfig

if TYPE_CHECKING:
    from torch import Tensor


def sample_losses(
    prediction: "Tensor",
    target: "Tensor",
    settings: LossConfig,
    mask: "Tensor | None" = None,
    normalize: bool = False,
) -> "Tensor":
    """Each sample's mean loss in float32, whatever the dtype of the forward pass: (B,).

    Args:
        prediction: of the model, (B, C, h, w).
        target: the same shape.
        settings: the share of each loss of `LOSSES`.
        mask: how much each cell counts, (B, 1, h, w) as `training_mask` gives it; None: all of it.
        normalize: divide by the mask's mean, as if the rest of the image were not there.
    """
    error = prediction.float() - target.float()
    total = error.new_zeros(len(error))
    for name, loss in LOSSES.items():
        if share := getattr(settings, name):
            costs = loss(error, settings)
            weighed = costs if mask is None else costs * mask
            total = total + share * weighed.flatten(1).mean(1)
    if mask is None or not normalize:
        return total
    # A mask that is black all over makes the loss 0, not 0 / 0.
    return total / mask.flatten(1).mean(1).clamp(min=SMALLEST_AREA)


def training_mask(mask: "Tensor", unmasked_weight: float) -> "Tensor":
    """How much each cell counts: the mask, 0..1, but at least `unmasked_weight`; (B, 1, h, w)."""
    return mask.clamp(unmasked_weight, 1)


def weighted_mean(losses: "Tensor", weights: "Tensor") -> "Tensor":
    """The loss of a micro-batch: each sample's loss (B,) times its weight (B,), averaged over B."""
    return (losses * weights).mean()


SMALLEST_AREA = 1e-6


def _huber(error: "Tensor", settings: LossConfig) -> "Tensor":
    """Half the square up to delta, from there on a straight line of the same slope."""
    from torch.nn.functional import huber_loss

    return huber_loss(
        error, error.new_zeros(()).expand_as(error), reduction="none", delta=settings.huber_delta
    )


def _log_cosh(error: "Tensor", settings: LossConfig) -> "Tensor":
    """log(cosh(error)), which neither overflows for large errors nor vanishes for small ones.

    Since cosh(x) = exp(x) (1 + exp(-2 x)) / 2.
    """
    size = error.abs()
    return size + ((-2 * size).expm1() / 2).log1p()


LOSSES: "dict[str, Callable[[Tensor, LossConfig], Tensor]]" = {
    "mse": lambda error, settings: error.square(),
    "mae": lambda error, settings: error.abs(),
    "huber": _huber,
    "log_cosh": _log_cosh,
}
"""Setting of the loss to its function: (error (B, C, h, w), settings) to the same shape."""
