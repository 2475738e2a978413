"""Logging of a command that runs a flow: everything in a file, warnings on the terminal.

Prefect sets logging up when it is imported, from environment variables that must be there before;
our own handlers are attached afterwards.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from flows.server_files import tilewright_home

KEPT_LOGS = 50
LINE = "%(asctime)s %(levelname)-7s %(name)s %(task_run_name)s: %(message)s"


def quiet_prefect(*, verbose: bool) -> None:
    """Keeps Prefect's lines off the terminal (not off its UI); call before it is imported."""
    quiet = {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_INTERNAL_LOGGING_LEVEL": "ERROR" if verbose else "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "tilewright",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def log_path(command: str) -> Path:
    """The log file of this run of a command; nothing is made yet."""
    folder = tilewright_home() / "logs"
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{os.getpid()}.log"


@contextlib.contextmanager
def command_log(path: Path, console: Console, *, verbose: bool = False) -> Iterator[None]:
    """Logs to a file while the context lasts, and shows our warnings; the newest logs are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(path.parent.glob("*.log"))[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
    file = logging.FileHandler(path)
    file.setFormatter(logging.Formatter(LINE, defaults={"task_run_name": ""}))
    shown = _ConsoleHandler(console)
    ours = logging.getLogger("tilewright")
    ours.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger().addHandler(file)
    ours.addHandler(shown)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(file)
        ours.removeHandler(shown)
        file.close()


class _ConsoleHandler(logging.Handler):
    """One line per warning, above the progress bars, without tracebacks."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        self._console.print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False)
