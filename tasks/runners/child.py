"""A process that works for another one: it runs the functions that come through a pipe.

`python -m tasks.runners.child FILE_DESCRIPTOR PARENT`. It knows nothing of Prefect, so that a
killed one leaves no task run behind. SIGTERM makes it stop at its next item, the end of the pipe
when it has nothing to do, and the death of its parent at once.
"""

import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from tasks import progress

POLL_SECONDS = 1.0
EXIT_ORPHAN = 74


class _ToParent(QueueHandler):
    """Gives log records to the parent, which shows them as its own."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Sends one record; the lock of the handler keeps threads apart."""
        with suppress(OSError):
            self.queue.send(("log", record))  # type: ignore[attr-defined]


def serve(parent: Connection) -> None:
    """Answers calls until there is nobody left to make any."""
    logs = _ToParent(parent)  # type: ignore[arg-type]
    logs.setLevel(logging.WARNING)
    logging.getLogger().addHandler(logs)
    while True:
        try:
            function, arguments = parent.recv()
            answer = _answer(function, arguments)
        except (EOFError, OSError, KeyboardInterrupt):
            return
        with logs.lock or threading.Lock(), suppress(OSError):
            parent.send_bytes(answer)


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """What a call gave or raised, as bytes that the parent can read."""
    try:
        return pickle.dumps(("result", function(*arguments)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        error.add_note("in a worker process:\n" + traceback.format_exc())
        return _told(error)


def _told(error: BaseException) -> bytes:
    try:
        pickle.loads(told := pickle.dumps(("error", error)))
    except (pickle.PickleError, TypeError, AttributeError):  # its text survives what it does not
        return pickle.dumps(("error", RuntimeError(f"{type(error).__name__}: {error}")))
    return told


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(EXIT_ORPHAN)  # nobody is left to take a result; what is committed stays


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: progress.stop())
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    serve(Connection(int(sys.argv[1])))
