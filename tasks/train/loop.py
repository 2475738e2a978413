"""The training loop, to be read from top to bottom."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tasks.config.cadences import Cadence
from tasks.train.batch import StepBatches
from tasks.train.precision import memory_gib
from tasks.train.state import Progress, Training
from tasks.train.step import NonFiniteError, StepResult, optimizer_step

Ending = Literal["done", "stopped", "interrupted"]
MAX_SKIPPED = 10
"""So many steps in a row may be left out since they are not finite; one more ends the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What is known of a finished step."""

    progress: Progress
    """After the step."""
    epoch: int
    """The epoch it belongs to, from 0."""
    loss: float | None
    """None: the step was left out, since something in it was not finite."""
    grad_norm: float | None
    learning_rates: Mapping[str, float]
    """By part."""
    seconds: float
    """Wall time, waiting for data included."""
    wait_seconds: float
    """Of these, waiting for data."""
    num_samples: int
    """Trained in this step, by all ranks."""
    ema_decay: float | None
    """Share of the averaged weights that stayed; None without them."""
    memory_gib: Mapping[str, float]
    """GPU memory of this rank since the start: allocated and reserved, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What happens around the steps. Files are written by rank 0 only; the loop does not care."""

    on_step: Callable[[StepReport], None]
    on_backup: Callable[[], None]
    on_save: Callable[[], None]
    on_validate: Callable[[], None]
    on_sample: Callable[[], None]
    on_skip: Callable[[NonFiniteError], None]
    should_stop: Callable[[], bool]
    """Whether this process was asked to end (SIGTERM)."""


def silent_hooks(should_stop: Callable[[], bool]) -> Hooks:
    """Hooks that write nothing: for ranks other than 0."""
    return Hooks(
        on_step=lambda report: None,
        on_backup=lambda: None,
        on_save=lambda: None,
        on_validate=lambda: None,
        on_sample=lambda: None,
        on_skip=lambda error: None,
        should_stop=should_stop,
    )


def train(
    training: Training, steps: Iterator[StepBatches], hooks: Hooks, stop_at: int | None = None
) -> Ending:
    """Trains until the last step, or until step `stop_at`, or until asked to stop.

    Backups are written at their cadence and at every ending, so that no ending loses a step.
    """
    config = training.config
    now = Moment(training.progress, 0.0)
    start = time.monotonic()
    while training.progress.step < training.total_steps:
        report, stop = train_step(training, steps, hooks)
        hooks.on_step(report)
        before, now = now, Moment(training.progress, (time.monotonic() - start) / 60)
        if training.progress.step == training.total_steps:
            break
        stopped = training.progress.step == stop_at
        if stop or stopped or is_due(config.backup, before, now):
            hooks.on_backup()
        if stop or stopped:
            return "interrupted" if stop else "stopped"
        if is_due(config.save, before, now, config.save.skip_first):
            hooks.on_save()
        if is_due(config.validation, before, now):
            hooks.on_validate()
        if is_due(config.sample, before, now, config.sample.skip_first):
            hooks.on_sample()
    if config.backup.every:
        hooks.on_backup()
    return "done"


def train_step(
    training: Training, steps: Iterator[StepBatches], hooks: Hooks
) -> tuple[StepReport, bool]:
    """Waits for data, trains one step and counts it; also says whether to stop after it."""
    start = time.perf_counter()
    data = next(steps)
    arrived = time.perf_counter()
    result = _step_or_skip(training, data, hooks)
    training.progress = training.progress.after_step(result.loss, data)
    average = training.average
    per_rank = sum(len(batch.rows) for batch in data.batches)
    report = StepReport(
        progress=training.progress,
        epoch=data.epoch,
        loss=result.loss,
        grad_norm=result.grad_norm,
        learning_rates=result.learning_rates,
        seconds=time.perf_counter() - start,
        wait_seconds=arrived - start,
        num_samples=per_rank * training.world,
        ema_decay=None if average is None else average.decay_at(training.progress.step),
        memory_gib=memory_gib(training.device),
    )
    return report, result.stop


def _step_or_skip(training: Training, data: StepBatches, hooks: Hooks) -> StepResult:
    """Trains a step; one that is not finite is left out where the settings say so.

    All ranks see the same loss and norm, so they leave out the same steps.
    """
    try:
        return optimizer_step(training, data, hooks.should_stop)
    except NonFiniteError as error:
        too_many = training.progress.num_skipped >= MAX_SKIPPED
        if training.config.non_finite == "stop" or too_many:
            raise
        hooks.on_skip(error)
        return StepResult(loss=None, grad_norm=None, learning_rates={}, stop=False)


@dataclass(frozen=True, slots=True)
class Moment:
    """The time right after a step."""

    progress: Progress
    minutes: float
    """Since this call began to train."""


def is_due(cadence: Cadence, before: Moment, now: Moment, skip_first: int = 0) -> bool:
    """Whether something with this cadence happens now, right after a step."""
    if not cadence.every:
        return False
    count = _times(cadence, now)
    if cadence.unit == "minute":
        return count > max(_times(cadence, before), skip_first)
    at_end = cadence.unit == "step" or now.progress.step_in_epoch == 0
    value = now.progress.step if cadence.unit == "step" else now.progress.epoch
    return at_end and value % cadence.every == 0 and count > skip_first


def _times(cadence: Cadence, moment: Moment) -> int:
    """How often it has been due until then."""
    progress = moment.progress
    value = {"step": progress.step, "epoch": progress.epoch, "minute": moment.minutes}
    return int(value[cadence.unit] // cadence.every)
