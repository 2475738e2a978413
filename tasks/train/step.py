"""One optimizer step: the arithmetic of training, without files, clocks or schedules of saving."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.families.vae import scale_latents
from tasks.train.batches import Batch, StepBatches
from tasks.train.losses import weighted_mean
from tasks.train.noise import draw_seed
from tasks.train.schedules import rate_factor, set_learning_rate
from tasks.train.state import Training

if TYPE_CHECKING:
    from torch import Tensor


class NonFiniteError(ValueError):
    """The loss or the gradient is not a number. The weights were not changed by this step."""

    def __init__(self, what: str, rows: Sequence[int]) -> None:
        super().__init__(f"the {what} is not finite")
        self.what = what
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What is reported of a step."""

    loss: float
    """Mean over the whole optimizer step, all ranks."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    stop: bool
    """Whether any rank was asked to stop; all ranks get the same answer."""


def optimizer_step(
    training: Training, data: StepBatches, should_stop: Callable[[], bool]
) -> StepResult:
    """Trains one step; NonFiniteError (with row numbers) instead of spoiling the weights."""
    rate = training.config.learning_rate * rate_factor(
        training.config.schedule, training.progress.step, training.total_steps
    )
    set_learning_rate(training.optimizer, rate)
    losses = []
    for number, batch in enumerate(data.batches, start=1):
        with _gradient_sync(training, last=number == len(data.batches)):
            losses.append(_backward(training, batch, share=len(data.batches)))
    loss, stop = _agree(training, losses, should_stop())
    _check_finite(training, data.batches, losses, loss)
    grad_norm = _update(training, data.batches)
    return StepResult(loss=loss, grad_norm=grad_norm, learning_rate=rate, stop=stop)


def predict_losses(training: Training, batch: Batch) -> "Tensor":
    """The loss of each sample of a batch on the training device: (B,)."""
    import torch

    latents = scale_latents(training.vae_config, batch.latents)
    noisy = training.objective.corrupt(latents, batch.noise, batch.timesteps)
    target = training.objective.target(latents, batch.noise, batch.timesteps)
    sizes = batch.sizes if training.family.size_conditioned else None
    conditioning = training.family.condition(batch.texts, sizes)
    # Dropout inside a model draws from the global generator: seeded per micro-batch, so that a
    # resumed run draws the same.
    torch.manual_seed(draw_seed(training.config.seed, "forward", batch.epoch, batch.position))
    with training.precision.autocast():
        prediction = training.family.predict(
            training.model, noisy.to(training.precision.dtype), batch.timesteps, conditioning
        )
    return training.loss(prediction, target)


def _backward(training: Training, batch: Batch, share: int) -> "Tensor":
    """Adds a micro-batch's gradients; gives its samples' losses (B,), detached."""
    import torch

    on_device = batch.to(training.device)
    losses = predict_losses(training, on_device)
    total = weighted_mean(losses, on_device.weights) / share
    torch.autograd.backward(training.scaler.scale(total))
    return losses.detach() * on_device.weights


def _gradient_sync(training: Training, last: bool) -> AbstractContextManager[None]:
    """Ranks exchange gradients once per step, in the backward pass of the last micro-batch."""
    if training.world == 1 or last:
        return nullcontext()
    context: AbstractContextManager[None] = training.model.no_sync()
    return context


def _agree(training: Training, losses: "Sequence[Tensor]", stop: bool) -> tuple[float, bool]:
    """The mean loss and whether to stop, equal on all ranks."""
    import torch

    mean = torch.stack([loss.mean() for loss in losses]).mean()
    if training.world == 1:
        return mean.item(), stop
    both = torch.stack([mean, mean.new_tensor(float(stop))])
    torch.distributed.all_reduce(both)
    total, stops = both.tolist()
    return total / training.world, stops > 0


def _check_finite(
    training: Training, batches: Sequence[Batch], losses: "Sequence[Tensor]", loss: float
) -> None:
    if math.isfinite(loss):
        return
    bad = [
        row
        for batch, values in zip(batches, losses, strict=True)
        for row, finite in zip(batch.rows, values.isfinite().tolist(), strict=True)
        if not finite
    ]
    raise NonFiniteError("loss", _gather(training, bad))


def _gather(training: Training, bad: list[int]) -> list[int]:
    """Bad rows of all ranks; every rank knows that the loss is not finite, so all come here."""
    import torch

    if training.world == 1:
        return bad
    everything: list[list[int]] = [[] for _ in range(training.world)]
    torch.distributed.all_gather_object(everything, bad)
    return sorted(row for rows in everything for row in rows)


def _update(training: Training, batches: Sequence[Batch]) -> float:
    """Clips, steps the optimizer and clears the gradients; gives the norm before clipping."""
    import torch

    training.scaler.unscale_(training.optimizer)
    limit = training.config.clip_grad_norm or math.inf
    norm = torch.nn.utils.clip_grad_norm_(training.parameters, limit).item()
    # A float16 scaler expects overflows and skips such steps by itself.
    if not math.isfinite(norm) and not training.scaler.is_enabled():
        raise NonFiniteError("gradient", [row for batch in batches for row in batch.rows])
    training.scaler.step(training.optimizer)
    training.scaler.update()
    training.optimizer.zero_grad(set_to_none=True)
    return norm
