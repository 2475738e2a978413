"""How training processes end with their parent, end in time, and never run twice in a workspace."""

import ctypes
import faulthandler
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PARENT_VARIABLE = "TILEWRIGHT_PARENT"
"""Environment variable with the process id of the process that starts this one."""
EXIT_FAILED = 1
EXIT_ORPHAN = 74
EXIT_INTERRUPTED = 75
_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def end_with_parent() -> None:
    """Makes the kernel send SIGTERM when our parent dies; exits at once if it is dead already.

    The signal comes when the *thread* that started us ends, so starters keep that thread.
    """
    expected = int(os.environ[PARENT_VARIABLE])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != expected:
        sys.exit(EXIT_ORPHAN)


def start_from_own_thread(
    command: list[str], environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Starts a process from a thread that lives as long as the process does."""
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def start_and_stay() -> None:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        started.append(process)
        ready.set()
        process.wait()

    threading.Thread(target=start_and_stay, name="training-launcher", daemon=True).start()
    ready.wait()
    if isinstance(started[0], OSError):
        raise started[0]
    return started[0]


def watch_stop_signals(grace_seconds: float) -> threading.Event:
    """An event that is set by the first stop signal; `grace_seconds` later this process ends.

    Call it before any other thread is started: the signals are blocked for all threads and waited
    for by one, so that even a main thread stuck in native code is ended in time.
    """
    stop = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)

    def wait() -> None:
        signal.sigwait(_STOP_SIGNALS)
        stop.set()
        # A C thread that needs no interpreter lock; it also shows where the process hung.
        faulthandler.dump_traceback_later(grace_seconds, exit=True)

    threading.Thread(target=wait, name="stop-signals", daemon=True).start()
    return stop


def hold_workspace(workspace: Path) -> IO[bytes]:
    """Marks a workspace as in use until this process ends, however it ends."""
    file = (workspace / ".ranks.lock").open("ab")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


@contextmanager
def only_runner(workspace: Path, patience: float) -> Iterator[None]:
    """Keeps a second runner out, and waits up to `patience` seconds for ranks of an earlier one.

    ValueError when the workspace stays in use.
    """
    with (workspace / ".runner.lock").open("ab") as file:
        if not _lock(file, patience=0.0):
            raise ValueError(f"{workspace} is being trained in by another process; wait for it")
        wait_for_ranks(workspace, patience)
        yield


def wait_for_ranks(workspace: Path, patience: float) -> None:
    """Waits until no training process uses the workspace; ValueError after `patience` seconds."""
    with (workspace / ".ranks.lock").open("ab") as file:
        if not _lock(file, patience):
            raise ValueError(
                f"training processes of an earlier call still run in {workspace} after "
                f"{patience:.0f} s; its status.json names the process id"
            )


def _lock(file: IO[bytes], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True
