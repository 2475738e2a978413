"""The training loop, to be read from top to bottom."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.config.cadences import Cadence
from tasks.train.batches import StepBatches
from tasks.train.state import Progress, Training
from tasks.train.step import optimizer_step

Ending = Literal["done", "stopped", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What is known of a finished step."""

    progress: Progress
    """After the step."""
    epoch: int
    """The epoch it belongs to, from 0."""
    loss: float
    grad_norm: float
    learning_rate: float
    seconds: float
    """Wall time, waiting for data included."""
    wait_seconds: float
    """Of these, waiting for data."""
    num_samples: int
    """Trained in this step, by all ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What happens around the steps. Files are written by rank 0 only; the loop does not care."""

    on_step: Callable[[StepReport], None]
    on_backup: Callable[[], None]
    on_sample: Callable[[], None]
    should_stop: Callable[[], bool]
    """Whether this process was asked to end (SIGTERM)."""


def silent_hooks(should_stop: Callable[[], bool]) -> Hooks:
    """Hooks that write nothing: for ranks other than 0."""
    return Hooks(
        on_step=lambda report: None,
        on_backup=lambda: None,
        on_sample=lambda: None,
        should_stop=should_stop,
    )


def train(
    training: Training, steps: Iterator[StepBatches], hooks: Hooks, stop_at: int | None = None
) -> Ending:
    """Trains until the last step, or until step `stop_at`, or until asked to stop.

    Backups are written at their cadence and at every ending, so that no ending loses a step.
    """
    config = training.config
    while training.progress.step < training.total_steps:
        report, stop = train_step(training, steps, hooks.should_stop)
        hooks.on_step(report)
        if training.progress.step == training.total_steps:
            break
        stopped = training.progress.step == stop_at
        if stop or stopped or is_due(config.backup, training.progress):
            hooks.on_backup()
        if stop or stopped:
            return "interrupted" if stop else "stopped"
        if is_due(config.sample, training.progress):
            hooks.on_sample()
    if config.backup.every:
        hooks.on_backup()
    return "done"


def train_step(
    training: Training, steps: Iterator[StepBatches], should_stop: Callable[[], bool]
) -> tuple[StepReport, bool]:
    """Waits for data, trains one step and counts it; also says whether to stop after it."""
    start = time.perf_counter()
    data = next(steps)
    arrived = time.perf_counter()
    result = optimizer_step(training, data, should_stop)
    training.progress = training.progress.after_step(result.loss, data)
    per_rank = sum(len(batch.rows) for batch in data.batches)
    report = StepReport(
        progress=training.progress,
        epoch=data.epoch,
        loss=result.loss,
        grad_norm=result.grad_norm,
        learning_rate=result.learning_rate,
        seconds=time.perf_counter() - start,
        wait_seconds=arrived - start,
        num_samples=per_rank * training.world,
    )
    return report, result.stop


def is_due(cadence: Cadence, progress: Progress) -> bool:
    """Whether something with this cadence happens now, right after a step."""
    if not cadence.every:
        return False
    if cadence.unit == "step":
        return progress.step % cadence.every == 0
    return progress.step_in_epoch == 0 and progress.epoch % cadence.every == 0
