"""Processes of this machine that work on partitions, one call at a time each.

Every process has a pipe of its own and shares no queue, lock or event with another one: those stay
locked for ever when a process is killed that holds them, which is what makes a process pool hang.
A killed process is the end of its pipe and of nothing else.
"""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from tasks.runners.place import WorkerLost, wait_until

GRACE_SECONDS = 10.0
"""So long may a process take to end at its next item; then it is killed, as safe as it is."""


@dataclass(frozen=True, slots=True)
class Process:
    """A started process and our end of its pipe."""

    process: "subprocess.Popen[bytes]"
    pipe: Connection

    def ask(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
        """Has a function called there; gives `result` or `error`, and which.

        Raises:
            WorkerLost: the process ended before it answered.
            KeyboardInterrupt: this process was asked to stop meanwhile.
        """
        try:
            self.pipe.send((function, arguments))
            while True:
                wait_until(self.pipe.poll)
                kind, value = self.pipe.recv()
                if kind != "log":
                    return kind, value
                logging.getLogger(value.name).handle(value)
        except (EOFError, OSError) as error:
            raise WorkerLost(f"a worker process {_end_of(self.process)}") from error

    def end(self) -> None:
        """Ends the process, and returns when it is gone."""
        self.pipe.close()
        self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_process() -> Process:
    """Starts a process; it loads what a function needs with the first call.

    It is in a process group of its own: Ctrl-C in a terminal is this process's to pass on.
    """
    ours, theirs = Pipe()
    command = [sys.executable, "-m", "tasks.runners.child", str(theirs.fileno()), str(os.getpid())]
    with theirs:
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0
        )
    return Process(process, ours)


@contextmanager
def processes() -> Iterator[Callable[..., Any]]:
    """A function that calls others in processes, as many as threads use it at the same time.

    A process that answered is used again; what a function raised there is raised here.
    """
    idle: deque[Process] = deque()

    def call(function: Callable[..., Any], *arguments: Any, on_gpu: bool = False) -> Any:
        try:
            process = idle.pop()
        except IndexError:
            process = start_process()
        try:
            kind, value = process.ask(function, arguments)
        except BaseException:
            process.end()
            raise
        idle.append(process)
        if kind == "error":
            raise value
        return value

    try:
        yield call
    finally:
        for process in idle:
            process.end()


def _end_of(process: "subprocess.Popen[bytes]") -> str:
    """How a process ended, for people."""
    try:
        code = process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return "answers no more"
    if code >= 0:
        return f"ended with exit code {code}"
    hint = " (Linux does so when memory runs out)" if code == -9 else ""
    return f"was killed by signal {-code}{hint}"
