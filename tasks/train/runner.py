"""Starts the processes of a training, watches them, and says how they ended. Knows no Prefect.

A thread of its own starts the launcher and stays until it ends: the kernel's parent-death signal
comes when the starting *thread* ends. So nothing is left running when this process is killed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

import tasks
from storage.store import open_store
from tasks.train.backup import find_damage, list_backups, newest_backup
from tasks.train.checks import check_training
from tasks.train.events import (
    EVENTS_FILE,
    Event,
    EventReader,
    loss_history,
    read_status,
    write_status,
)
from tasks.train.mirror import fetch_newest_backup
from tasks.train.processes import (
    PARENT_VARIABLE,
    only_runner,
    start_from_own_thread,
    wait_for_ranks,
)
from tasks.train.spec import TrainSpec, write_spec
from tasks.train.summary import summarize

LOG_FILE = "train.log"
POLL_SECONDS = 0.1
TAIL_LINES = 30
MARGIN_SECONDS = 10.0
"""Beyond the grace period, before processes that should have ended are killed."""


class TrainingCrashed(RuntimeError):
    """The training processes ended without finishing."""

    def __init__(
        self,
        message: str,
        *,
        returncode: int = 1,
        log_tail: str = "",
        resumable: bool = True,
        interrupted: bool = False,
    ) -> None:
        super().__init__(message)
        self.returncode = returncode
        """Of the launcher; negative for a signal."""
        self.log_tail = log_tail
        self.resumable = resumable
        """Whether starting again may help: not for bad settings or a diverged loss."""
        self.interrupted = interrupted
        """Whether it ended because `should_cancel` said so."""


@dataclass(slots=True)
class _Attempt:
    """One start of the processes."""

    spec: TrainSpec
    process: subprocess.Popen[bytes]
    events: EventReader
    log_start: int
    asked_to_end: float | None = None
    """When SIGTERM was sent, on the monotonic clock."""

    def ask_to_end(self) -> None:
        """Sends SIGTERM, once: a second one would cut the orderly end short."""
        if self.asked_to_end is None:
            self.asked_to_end = time.monotonic()
            self.process.terminate()

    def patience(self) -> float:
        """Seconds that are left of what an orderly end may take."""
        allowed = self.spec.config.train.grace_seconds + MARGIN_SECONDS
        return allowed - (time.monotonic() - (self.asked_to_end or time.monotonic()))


def run_training(
    spec: TrainSpec,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    should_cancel: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains in child processes and gives the summary of `tilewright train`.

    Goes on from `spec.resume_from`, else from the newest valid backup of the workspace.

    Raises:
        ValueError: The run cannot be started as configured.
        TrainingCrashed: It was started and did not finish; also when it was cancelled.
    """
    start = time.monotonic()
    spec.workspace.mkdir(parents=True, exist_ok=True)
    patience = spec.config.train.grace_seconds + MARGIN_SECONDS
    with only_runner(spec.workspace, patience):
        check_training(spec.config)
        spec = with_smaller_pieces(_with_backup(spec, on_event))
        attempt = _start(spec)
        try:
            _watch(attempt, on_event, should_cancel)
        finally:
            _end(attempt)
            _end_ranks(spec)
        for event in attempt.events.read():
            on_event(event)
        _raise_unless_finished(attempt)
        return summarize(spec, seconds=time.monotonic() - start)


def _with_backup(spec: TrainSpec, on_event: Callable[[Event], None]) -> TrainSpec:
    """The spec with the backup to go on from, checked."""
    if spec.resume_from is not None:
        damage = find_damage(spec.resume_from)
        if damage is not None:
            raise ValueError(f"cannot go on from backup {spec.resume_from}: {damage}")
        return spec
    if not list_backups(spec.backups):
        store = open_store(spec.store, create=False)
        if not store.is_local:
            fetch_newest_backup(store, spec.run_id, spec.workspace)
    backup = newest_backup(
        spec.backups, on_damage=lambda text: on_event({"event": "message", "text": text})
    )
    return replace(spec, resume_from=backup)


def with_smaller_pieces(spec: TrainSpec) -> TrainSpec:
    """After an end for lack of memory: micro-batches in twice as many pieces, where allowed.

    A run that was split stays so: it would run out again.
    """
    status = read_status(spec.workspace)
    split = int(status.get("split", spec.split))
    if status.get("out_of_memory") and spec.config.train.halve_batch_on_oom:
        split *= 2
    return replace(spec, split=min(split, spec.config.train.batch_size))


def _start(spec: TrainSpec) -> _Attempt:
    """Starts the launcher; what all its processes print goes to train.log, never to a pipe."""
    spec_path = write_spec(spec)
    events = EventReader(spec.workspace / EVENTS_FILE)
    events.skip()
    root = Path(tasks.__file__).parents[1]
    environment = {
        **os.environ,
        PARENT_VARIABLE: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join([str(root), *_entries(os.environ.get("PYTHONPATH"))]),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    log = spec.workspace / LOG_FILE
    log_start = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "tasks.train.launch", str(spec_path)]
    process = start_from_own_thread(command, environment, log)
    write_status(
        spec.workspace,
        "running",
        pid=process.pid,
        create_time=psutil.Process(process.pid).create_time(),
        step=None,
        split=spec.split,
    )
    return _Attempt(spec, process, events, log_start)


def _watch(
    attempt: _Attempt, on_event: Callable[[Event], None], should_cancel: Callable[[], bool]
) -> None:
    """Passes events on until the launcher ends, or does not end in time after a cancel."""
    while attempt.process.poll() is None and attempt.patience() > 0:
        for event in attempt.events.read():
            on_event(event)
        if should_cancel():
            attempt.ask_to_end()
        time.sleep(POLL_SECONDS)


def _end(attempt: _Attempt) -> None:
    """Ends a launcher that still runs: first kindly, so that a backup is written, then not."""
    process = attempt.process
    if process.poll() is not None:
        return
    attempt.ask_to_end()
    try:
        process.wait(max(attempt.patience(), 0.0))
    except subprocess.TimeoutExpired:
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        for member in family:
            member.kill()
        process.wait()


def _end_ranks(spec: TrainSpec) -> None:
    """Waits for ranks that outlive a killed launcher: they back up and end by themselves."""
    wait_for_ranks(spec.workspace, spec.config.train.grace_seconds + MARGIN_SECONDS)


def _raise_unless_finished(attempt: _Attempt) -> None:
    workspace, returncode = attempt.spec.workspace, attempt.process.returncode
    status = read_status(workspace)
    if returncode == 0 and status.get("state") in ("done", "stopped"):
        return
    cancelled = attempt.asked_to_end is not None
    if status.get("state") == "running":
        status["state"] = "interrupted" if cancelled else "failed"
        facts = {name: value for name, value in status.items() if name not in ("state", "updated")}
        write_status(workspace, status["state"], **facts, returncode=returncode, resumable=True)
    tail = _log_tail(attempt)
    raise TrainingCrashed(
        _describe(attempt.spec, status, returncode, tail),
        returncode=returncode,
        log_tail=tail,
        resumable=bool(status.get("resumable", True)),
        interrupted=cancelled,
    )


def _describe(spec: TrainSpec, status: dict[str, Any], returncode: int, tail: str) -> str:
    how = (
        f"was ended by {signal.Signals(-returncode).name}"
        if returncode < 0
        else f"ended with exit status {returncode}"
    )
    backup = newest_backup(spec.backups)
    step = max(loss_history(spec.workspace), default=0)
    lines = [f"training {spec.run_id} {how} after step {step}."]
    if status.get("error"):
        lines.append(str(status["error"]))
    elif status.get("state") == "interrupted":
        lines.append("It was asked to end.")
    else:
        lines.append(f"The end of {spec.workspace / LOG_FILE}:\n{tail}")
    lines.append(f"Newest backup: {backup or 'none'}.")
    return "\n".join(lines)


def _log_tail(attempt: _Attempt) -> str:
    with (attempt.spec.workspace / LOG_FILE).open("rb") as log:
        log.seek(attempt.log_start)
        lines = log.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def _entries(path: str | None) -> list[str]:
    return [path] if path else []
