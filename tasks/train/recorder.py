"""What rank 0 writes while training: events, status, TensorBoard, backups, samples, the model."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

from storage.errors import StorageError
from tasks.epochs.order import EpochOrder, epoch_plan
from tasks.train.backup import keep_newest, write_backup
from tasks.train.board import log_images, log_step, log_validation, open_board
from tasks.train.events import EventLog
from tasks.train.lineage import LINEAGE_ERRORS, keep_lineage
from tasks.train.loop import Ending, Hooks, StepReport
from tasks.train.mirror import mirror
from tasks.train.output import keep_saves, write_output
from tasks.train.sampling import draw_samples
from tasks.train.setup import Run
from tasks.train.spec import TrainSpec
from tasks.train.state import weights_in_use
from tasks.train.step import NonFiniteError
from tasks.train.validation import validate


class Recorder:
    """The files of one call of a training. `hooks()` gives them to the loop."""

    def __init__(self, run: Run, log: EventLog, stop: Event) -> None:
        self._run = run
        self._log = log
        self._stop = stop
        self._started_at = time.time()
        self._backed_up = run.training.progress.step if run.spec.resume_from else None
        self._board = open_board(run.spec.workspace / "tensorboard", run.training.progress.step)
        self._from_step = run.training.progress.step
        self._lineage = ""
        self._epoch = -1
        self._outputs: list[str] = []

    def start(self) -> None:
        """Tells what is about to be trained."""
        run, training = self._run, self._run.training
        self._log.event(
            "start",
            step=training.progress.step,
            epoch=training.progress.epoch,
            total_steps=training.total_steps,
            num_rows=len(run.source.rows.order.bucket),
            trained_parameters=sum(parameter.numel() for parameter in training.parameters),
            device=str(training.device),
            resumed_from=run.spec.resume_from and str(run.spec.resume_from),
        )
        self._log.status(
            "running",
            step=training.progress.step,
            epoch=training.progress.epoch,
            total_steps=training.total_steps,
        )
        for note in run.notes:
            self._log.message(note)
        self._keep_lineage()

    def hooks(self) -> Hooks:
        """What the loop calls."""
        return Hooks(
            on_step=self._on_step,
            on_backup=self._on_backup,
            on_save=self._on_save,
            on_validate=self._on_validate,
            on_sample=self._on_sample,
            on_skip=self._on_skip,
            should_stop=self._stop.is_set,
        )

    def finish(self, ending: Ending) -> None:
        """Final samples and model of a finished training, and the last status of any."""
        if ending == "done":
            if self._run.training.config.validation.every:
                self._on_validate()
            self._on_sample()
            if not self._lineage:
                self._keep_lineage()
            self._outputs = [str(self._write_output(self._run.spec.workspace / "output"))]
        progress = self._run.training.progress
        facts = {"step": progress.step, "epoch": progress.epoch, "outputs": self._outputs}
        self._log.event("done", state=ending, **facts)
        self._board.flush()
        self._log.status(ending, **facts)
        self._mirror()

    def close(self) -> None:
        """Ends the TensorBoard files."""
        self._board.close()

    def _on_step(self, report: StepReport) -> None:
        if report.epoch != self._epoch:
            self._epoch = report.epoch
            order = epoch_plan(self._run.source.rows.order, self._run.source.order, report.epoch)
            self._log.event("epoch", **describe_epoch(order, self._run.source.rows.buckets))
        log_step(self._board, report)
        progress = report.progress
        self._log.event(
            "step",
            step=progress.step,
            epoch=report.epoch,
            loss=report.loss,
            smoothed_loss=progress.smoothed_loss,
            learning_rates=report.learning_rates,
            grad_norm=report.grad_norm,
            samples_per_second=round(report.num_samples / report.seconds, 3),
            data_wait_seconds=round(report.wait_seconds, 6),
            seconds=round(report.seconds, 6),
        )
        self._log.status("running", step=progress.step, epoch=progress.epoch)

    def _on_backup(self) -> None:
        training = self._run.training
        if self._backed_up == training.progress.step:
            return
        try:
            path = write_backup(self._run.spec.backups, training, self._run.facts)
        except OSError as error:
            # A full disk, mostly. Training goes on: there may be room at the next backup.
            self._log.message(f"no backup at step {training.progress.step}: {error}")
            return
        keep_newest(self._run.spec.backups, training.config.backup.keep)
        self._backed_up = training.progress.step
        self._log.event("backup", step=training.progress.step, path=str(path))
        self._mirror()

    def _on_save(self) -> None:
        step = self._run.training.progress.step
        saves = self._run.spec.workspace / "saves"
        try:
            path = self._write_output(saves / f"step-{step:08}")
        except OSError as error:
            self._log.message(f"the model was not saved at step {step}: {error}")
            return
        keep_saves(saves, self._run.training.config.save.keep)
        self._log.event("save", step=step, path=str(path))

    def _write_output(self, folder: Path) -> Path:
        return write_output(self._run, folder, self._started_at, self._lineage)

    def _keep_lineage(self) -> None:
        """A training does not fail because it cannot be told where its model comes from."""
        try:
            self._lineage = keep_lineage(self._run, self._from_step)
        except LINEAGE_ERRORS as error:
            self._log.message(f"the lineage could not be written: {type(error).__name__}: {error}")

    def _on_validate(self) -> None:
        run = self._run
        if run.held_out is None:
            return
        with weights_in_use(run.training):
            found = validate(run.training, run.source, run.held_out)
        step = run.training.progress.step
        log_validation(self._board, found, step)
        self._log.event("validation", step=step, **asdict(found))

    def _on_skip(self, error: NonFiniteError) -> None:
        step = self._run.training.progress.step + 1
        names = ", ".join(self._run.source.rows.name(row) for row in error.rows) or "unknown"
        self._log.message(f"step {step} was left out: {error}; rows: {names}")

    def _on_sample(self) -> None:
        step = self._run.training.progress.step
        if not self._run.training.config.sample.prompts:
            return
        folder = self._run.spec.workspace / "samples" / f"step-{step:08}"
        try:
            images = draw_samples(self._run, folder, self._stop.is_set)
        except RuntimeError as error:
            # Out of memory, mostly. A picture is not worth a training; the message is shown.
            self._log.message(f"no samples at step {step}: {error}")
            return
        log_images(self._board, images, step)
        self._log.event("sample", step=step, paths=[str(path) for path in _pictures(folder)])

    def _mirror(self) -> None:
        if self._run.store.is_local:
            return
        try:
            mirror(self._run.store, self._run.spec.run_id, self._run.spec.workspace)
        except (OSError, StorageError) as error:
            self._log.message(f"the workspace could not be copied to the store: {error}")


def report_failure(log: EventLog, error: str) -> None:
    """Tells why a training cannot go on, where starting it again would not help."""
    log.event("failed", error=error)
    log.status("failed", error=error, resumable=False)


def report_out_of_memory(log: EventLog, spec: TrainSpec, error: str) -> None:
    """Tells that memory ran out; the runner may start again with smaller pieces."""
    train, size = spec.config.train, -(-spec.config.train.batch_size // spec.split)
    advice = (
        "a smaller train.batch_size with more train.gradient_accumulation_steps, "
        "train.gradient_checkpointing = true, a smaller data.resolution or "
        "train.halve_batch_on_oom = true"
    )
    text = f"memory ran out with {size} samples at a time. Try {advice}. ({error.splitlines()[0]})"
    smaller = train.halve_batch_on_oom and size > 1
    facts = {"out_of_memory": True, "split": spec.split, "resumable": smaller}
    log.event("failed", error=text)
    log.status("failed", error=text, **facts)


def describe_epoch(order: EpochOrder, buckets: tuple[str, ...]) -> Mapping[str, Any]:
    """What an epoch trains, drops and repeats, with bucket names."""
    return {
        "epoch": order.epoch,
        "steps": order.num_steps,
        "entries": order.num_entries,
        "dropped": {buckets[code]: count for code, count in order.num_dropped.items()},
        "repeated": {buckets[code]: count for code, count in order.num_repeated.items()},
    }


def _pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))
