"""How far a stage is, told through plain logging: whoever shows it attaches a handler.

`flows.terminal` draws bars; without a handler nothing is shown and nothing is lost.
"""

import logging

LOGGER_NAME = "tilewright.progress"
_logger = logging.getLogger(LOGGER_NAME)


def report(stage: str, done: int, total: int, unit: str = "items") -> None:
    """Says that `done` of `total` units of a stage are finished; any thread may call it."""
    facts = {"stage": stage, "done": done, "total": total, "unit": unit}
    _logger.info("%s: %d of %d %s", stage, done, total, unit, extra=facts)
