"""One optimizer step: the arithmetic of training, without files, clocks or schedules of saving."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.families.vae import scale_latents
from tasks.train.batch import Batch, StepBatches
from tasks.train.losses import sample_losses, training_mask, weighted_mean
from tasks.train.methods.adapters import switched_off
from tasks.train.noise import draw_seed
from tasks.train.optimizers import learning_rate_scale, loss_scale
from tasks.train.parts import freeze_finished
from tasks.train.rounding import update_weights
from tasks.train.schedules import rate_factor, set_group_rates
from tasks.train.state import Training
from tasks.train.weightings import WEIGHTINGS

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

    loss: float | None
    """Mean over the whole optimizer step, all ranks; None: it was left out."""
    grad_norm: float | None
    """Before clipping."""
    learning_rates: Mapping[str, float]
    """By part."""
    stop: bool
    """Whether any rank was asked to stop; all ranks get the same answer."""


def optimizer_step(
    training: Training, data: StepBatches, should_stop: Callable[[], bool]
) -> StepResult:
    """Trains one step; NonFiniteError (with row numbers) instead of spoiling the weights."""
    if freeze_finished(training.parts, training.progress.step, training.progress.epoch):
        distribute(training)
    rates = set_learning_rates(training)
    losses = []
    for number, batch in enumerate(data.batches, start=1):
        with _gradient_sync(training, last=number == len(data.batches)):
            losses.append(_backward(training, batch, share=len(data.batches)))
    norm = _clip(training)
    loss, grad_norm, stop = _agree(training, losses, norm, should_stop())
    _check_finite(training, data.batches, losses, loss, grad_norm)
    _update(training)
    return StepResult(loss=loss, grad_norm=grad_norm, learning_rates=rates, stop=stop)


def distribute(training: Training) -> None:
    """Wraps what trains now so that ranks average their gradients; nothing for a single rank."""
    import torch

    if training.world > 1:
        devices = None if training.device.type == "cpu" else [training.device]
        training.model = torch.nn.parallel.DistributedDataParallel(
            training.forward, device_ids=devices, broadcast_buffers=False
        )


def set_learning_rates(training: Training) -> dict[str, float]:
    """Sets the rate of every parameter group for the step to come; gives them by part."""
    train = training.config
    factor = rate_factor(
        train.schedule,
        training.progress.step,
        training.total_steps,
        train.learning_rate,
        train.epochs,
    ) * learning_rate_scale(
        train.learning_rate_scaler,
        train.batch_size,
        train.gradient_accumulation_steps,
        training.world,
    )
    rates = {part.name: part.learning_rate * factor for part in training.parts if part.is_training}
    set_group_rates(training.optimizer, rates)
    return rates


def predict_losses(training: Training, batch: Batch, module: Any = None) -> "Tensor":
    """The loss of each sample of a batch on the training device: (B,).

    `module` is called instead of the distributed model, where other ranks do not take part.
    """
    import torch

    train, t = training.config, batch.timesteps
    latents = scale_latents(training.latent_facts, batch.latents)
    noisy = training.objective.corrupt(latents, batch.input_noise, t)
    inputs = (noisy, t, batch.prompts, batch.texts, batch.sizes, _holes(training, batch))
    mask = None if batch.masks is None else training_mask(batch.masks, train.mask.unmasked_weight)
    target, prior = training.objective.target(latents, batch.noise, t), None
    if any(batch.is_prior) or (mask is not None and train.mask.prior_weight):
        prior = _prior(training, inputs).to(target.dtype)
        is_prior = torch.tensor(batch.is_prior, device=target.device).view(-1, 1, 1, 1)
        target = torch.where(is_prior, prior, target)
    # Dropout inside a model draws from the global generator: seeded per micro-batch, so that a
    # resumed run draws the same.
    torch.manual_seed(draw_seed(train.seed, "forward", batch.epoch, batch.position))
    prediction = (module or training.model)(*inputs)
    losses = sample_losses(prediction, target, train.loss, mask, train.mask.normalize)
    if mask is not None and prior is not None and train.mask.prior_weight:
        outside = (prediction.float() - prior.float()).square() * (1 - mask)
        losses = losses + train.mask.prior_weight * outside.flatten(1).mean(1)
    return losses * WEIGHTINGS[train.loss.weighting](training.objective, t, train.loss.gamma)


def _holes(training: Training, batch: Batch) -> "Tensor | None":
    """What an inpainting model is told, as the denoiser wants it: (B, 1 + C, h, w)."""
    import torch

    if batch.holes is None:
        return None
    mask, masked = batch.holes[:, :1], batch.holes[:, 1:]
    return torch.cat([mask, scale_latents(training.latent_facts, masked)], dim=1)


def _prior(training: Training, inputs: tuple[Any, ...]) -> "Tensor":
    """What the model predicts without its adapters: (B, C, h, w)."""
    import torch

    with torch.no_grad(), switched_off(*training.adapted):
        prediction: Tensor = training.forward(*inputs)
    return prediction


def _backward(training: Training, batch: Batch, share: int) -> "Tensor":
    """Adds a micro-batch's gradients; gives its samples' losses (B,), detached."""
    import torch

    train = training.config
    scale = loss_scale(
        train.loss_scaler, train.batch_size, train.gradient_accumulation_steps, training.world
    )
    found = []
    pieces = batch.split(training.split)
    for number, piece in enumerate(pieces, start=1):
        on_device = piece.to(training.device)
        with _gradient_sync(training, last=number == len(pieces)):
            losses = predict_losses(training, on_device)
            part = len(piece.rows) / len(batch.rows)
            total = weighted_mean(losses, on_device.weights) * (part * scale) / share
            torch.autograd.backward(training.scaler.scale(total))
        found.append(losses.detach() * on_device.weights)
    return torch.cat(found)


def _gradient_sync(training: Training, last: bool) -> AbstractContextManager[None]:
    """Ranks exchange gradients once per step, in the backward pass of the last micro-batch."""
    if training.world == 1 or last:
        return nullcontext()
    context: AbstractContextManager[None] = training.model.no_sync()
    return context


def _clip(training: Training) -> "Tensor":
    """Scales the gradients down to the limit; gives their norm before, still on the device."""
    import torch

    training.scaler.unscale_(training.optimizer)
    limit = training.config.clip_grad_norm or math.inf
    return torch.nn.utils.clip_grad_norm_(training.parameters, limit)


def _agree(
    training: Training, losses: "Sequence[Tensor]", norm: "Tensor", stop: bool
) -> tuple[float, float, bool]:
    """The mean loss, the norm of the gradients and whether to stop, equal on all ranks.

    All are read at once, so that Python waits for the GPU once per step.
    """
    import torch

    mean = torch.stack([loss.mean() for loss in losses]).mean()
    if training.world == 1:
        loss, grad_norm = torch.stack([mean, norm.to(mean)]).tolist()
        return loss, grad_norm, stop
    both = torch.stack([mean, mean.new_full((), float(stop))])
    torch.distributed.all_reduce(both)
    # The ranks' gradients are their average already, and so have one norm.
    total, stops, grad_norm = torch.stack([*both, norm.to(mean)]).tolist()
    return total / training.world, grad_norm, stops > 0


def _check_finite(
    training: Training,
    batches: Sequence[Batch],
    losses: "Sequence[Tensor]",
    loss: float,
    grad_norm: float,
) -> None:
    # A float16 scaler expects gradients that overflow and skips such steps by itself.
    overflow_expected = training.scaler.is_enabled()
    if math.isfinite(loss) and (math.isfinite(grad_norm) or overflow_expected):
        return
    training.scaler.update()
    training.optimizer.zero_grad(set_to_none=True)
    if math.isfinite(loss):
        raise NonFiniteError("gradient", [row for batch in batches for row in batch.rows])
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


def _update(training: Training) -> None:
    """Steps the optimizer and clears the gradients."""
    seed = draw_seed(training.config.seed, "rounding", 0, training.progress.step)
    update_weights(training.optimizer, training.scaler, seed)
    training.scaler.update()
    training.optimizer.zero_grad(set_to_none=True)
    if training.average is not None:
        training.average.update(training.progress.step + 1)
