"""One rank of a training: python -m tasks.train.child SPEC.json, started by torch's launcher."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from tasks.train.processes import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    end_with_parent,
    hold_workspace,
    watch_stop_signals,
)

if TYPE_CHECKING:
    import torch

    from tasks.train.events import EventLog
    from tasks.train.loop import Ending
    from tasks.train.setup import Run
    from tasks.train.spec import TrainSpec
    from tasks.train.step import NonFiniteError

COLLECTIVE_MINUTES = 120
"""Other ranks wait this long for rank 0 to write a backup or draw samples."""


def main(spec_path: Path) -> int:
    """Trains and gives the exit status; what a person needs to know is in events and status."""
    end_with_parent()
    from tasks.train.spec import read_spec

    spec = read_spec(spec_path)
    stop = watch_stop_signals(spec.config.train.grace_seconds)
    with hold_workspace(spec.workspace):
        # torch and diffusers are imported from here on, with the signals already in good hands.
        ending = train_rank(spec, stop, int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"]))
    return {"failed": EXIT_FAILED, "interrupted": EXIT_INTERRUPTED}.get(ending, 0)


def train_rank(spec: "TrainSpec", stop: Event, rank: int = 0, local_rank: int = 0) -> str:
    """Trains as one rank, in this process; gives done, stopped, interrupted or failed."""
    from storage.store import open_store
    from tasks.train.precision import attention, choose_device, is_out_of_memory, set_up_torch
    from tasks.train.recorder import report_failure, report_out_of_memory
    from tasks.train.setup import prepare_run

    log = _open_log(spec)
    try:
        device = choose_device(spec.config.train.device, local_rank)
        with _process_group(device, spec.config.train.processes):
            set_up_torch(spec.config.train, device)
            run = prepare_run(spec, open_store(spec.store, create=False), device, rank)
            with attention(spec.config.train.attention):
                return _run_loop(run, log if rank == 0 else None, stop)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        report_out_of_memory(log, spec, str(error))
        sys.stderr.write(f"{error}\n")
        return "failed"
    except ValueError as error:
        if rank == 0:
            report_failure(log, str(error))
        sys.stderr.write(f"{error}\n")
        return "failed"


def _run_loop(run: "Run", log: "EventLog | None", stop: Event) -> "Ending":
    """The loop with its hooks; ranks other than 0 have no log and write nothing."""
    from tasks.train.batches import step_batches
    from tasks.train.loop import silent_hooks, train
    from tasks.train.recorder import Recorder
    from tasks.train.step import NonFiniteError

    progress = run.training.progress
    stop_at = run.spec.stop_after_steps and progress.step + run.spec.stop_after_steps
    batches = step_batches(run.source, progress.epoch, progress.step_in_epoch)
    with run.source.reader, closing(batches) as steps, ExitStack() as stack:
        recorder = None
        if log is not None:
            recorder = stack.enter_context(closing(Recorder(run, log, stop)))
            recorder.start()
        hooks = recorder.hooks() if recorder else silent_hooks(stop.is_set)
        try:
            ending = train(run.training, steps, hooks, stop_at)
        except NonFiniteError as error:
            raise ValueError(_describe(error, run)) from error
        if recorder:
            recorder.finish(ending)
        return ending


def _describe(error: "NonFiniteError", run: "Run") -> str:
    step = run.training.progress.step
    names = ", ".join(run.source.rows.name(row) for row in error.rows) or "unknown"
    return (
        f"step {step + 1}: the {error.what} is not finite (NaN or infinity); rows: {names}. "
        f"The weights of step {step} are untouched. Look at these images, and try a lower "
        'train.learning_rate, train.clip_grad_norm = 1.0 or train.train_dtype = "bfloat16".'
    )


def _open_log(spec: "TrainSpec") -> "EventLog":
    import psutil

    from tasks.train.events import EventLog

    me = psutil.Process()
    facts = {"pid": me.pid, "create_time": me.create_time(), "split": spec.split}
    return EventLog(spec.workspace, facts)


@contextmanager
def _process_group(device: "torch.device", world: int) -> Iterator[None]:
    """Connects the ranks of this training; nothing to do for a single one."""
    if world == 1:
        yield
        return
    from datetime import timedelta

    import torch

    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = timedelta(minutes=COLLECTIVE_MINUTES)
    torch.distributed.init_process_group(backend, timeout=timeout)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
