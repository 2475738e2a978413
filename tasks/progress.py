"""How far a stage is, told through plain logging: whoever shows it attaches a handler.

`flows.terminal` draws bars; without a handler nothing is shown and nothing is lost.
"""

import logging
import threading

LOGGER_NAME = "tilewright.progress"
_logger = logging.getLogger(LOGGER_NAME)
_stopping = threading.Event()


def report(stage: str, done: int, total: int, unit: str = "items") -> None:
    """Says that `done` of `total` units of a stage are finished; any thread may call it.

    Raises:
        KeyboardInterrupt: the process was asked to stop, which the main thread alone would notice
            only when this piece of work is finished.
    """
    check()
    facts = {"stage": stage, "done": done, "total": total, "unit": unit}
    _logger.info("%s: %d of %d %s", stage, done, total, unit, extra=facts)


def check() -> None:
    """Raises KeyboardInterrupt when the process was asked to stop: for who waits long."""
    if _stopping.is_set():
        raise KeyboardInterrupt("asked to stop")


def stop() -> None:
    """Asks all work of this process to end at its next item."""
    _stopping.set()
