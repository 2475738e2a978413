"""Progress on standard error: bars in a terminal, else a plain line every two seconds."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as Eta
from rich.text import Text

from tasks.progress import LOGGER_NAME

PLAIN_SECONDS = 2.0
"""Least time between two plain lines of a stage."""

LEAST_SECONDS = 0.5
"""A rate is told after this time; before, it says more about the reporting than the work."""

Show = Callable[[str, int, int, str], None]
"""(stage, done, total, unit)"""


class ProgressHandler(logging.Handler):
    """Passes the records of `tasks.progress.report` on; logging's lock keeps threads apart."""

    def __init__(self, show: Show) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Shows one progress record."""
        facts = record.__dict__
        self._show(facts["stage"], facts["done"], facts["total"], facts["unit"])


@contextlib.contextmanager
def show_progress(console: Console) -> Iterator[None]:
    """Shows progress on a console for as long as the context lasts."""
    if console.is_terminal:
        with _progress(console) as progress:
            show = bars(progress)
            with _attached(ProgressHandler(show)):
                yield
    else:
        show = plain_lines(lambda line: console.print(line, markup=False, highlight=False))
        with _attached(ProgressHandler(show)):
            yield


def plain_lines(write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Show:
    """Writes the first and the last record of a stage, and one every two seconds between."""
    started: dict[str, tuple[float, int]] = {}
    written: dict[str, float] = {}
    latest: dict[str, tuple[int, int]] = {}

    def show(stage: str, done: int, total: int, unit: str) -> None:
        now = clock()
        if latest.get(stage) == (done, total):
            return
        latest[stage] = (done, total)
        if done < started.get(stage, (now, 0))[1]:  # the stage began anew
            started.pop(stage)
        since, first = started.setdefault(stage, (now, done))
        if done >= total or now - written.get(stage, -PLAIN_SECONDS) >= PLAIN_SECONDS:
            written[stage] = now
            write(f"{stage}: {done}/{total} {unit}{_pace(done - first, total - done, now - since)}")

    return show


def bars(progress: Progress) -> Show:
    """Draws one bar per stage."""
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int, unit: str) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total, unit=unit)
        progress.update(tasks[stage], completed=done, total=total)

    return show


def _pace(finished: int, left: int, seconds: float) -> str:
    """Rate and remaining time; empty while there is nothing to tell from."""
    if finished <= 0 or seconds < LEAST_SECONDS:
        return ""
    rate = finished / seconds
    remaining = f", {_duration(left / rate)} left" if left > 0 else ""
    return f" ({_speed(rate)}{remaining})"


def _speed(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """The rate, empty until it is known."""
        speed = task.finished_speed or task.speed
        return Text(_speed(speed) if speed else "")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
        _Rate(),
        Eta(),
        console=console,
    )


@contextlib.contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    """Attaches a handler to the progress logger, which then bothers no other handler."""
    logger = logging.getLogger(LOGGER_NAME)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
