"""Artifacts in the Prefect UI that are brought up to date while a task runs.

Progress artifacts show how far work is, from the reports that terminals show.
"""

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client

from tasks.progress import LOGGER_NAME

AFTER_SECONDS, EVERY_SECONDS = 5.0, 5.0
"""Shorter work is over before anybody looks; the server pays for every update."""


@contextmanager
def shown_progress() -> Iterator[None]:
    """Shows what the current task run reports while the context lasts."""
    logger, handler = logging.getLogger(LOGGER_NAME), _Artifacts()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.finish()


class LiveArtifacts:
    """The artifacts of one task run, by key: each is made once and then replaced.

    So the history of a key has one entry per run. Nothing stops because nobody can look: a server
    that is away is passed over.
    """

    def __init__(self) -> None:
        self._made: dict[str, UUID] = {}

    def markdown(self, key: str, text: str, description: str) -> None:
        """Shows a text."""
        with suppress(httpx.HTTPError):
            if key in self._made:
                self._replace(key, text, description)
                return
            made = create_markdown_artifact(text, key=key, description=description)
            self._made[key] = made  # type: ignore[assignment]

    def table(self, key: str, rows: list[dict[str, Any]], description: str) -> None:
        """Shows a table."""
        with suppress(httpx.HTTPError):
            if key in self._made:
                self._replace(key, json.dumps(rows), description)
                return
            made = create_table_artifact(rows, key=key, description=description)
            self._made[key] = made  # type: ignore[assignment]

    def _replace(self, key: str, data: str, description: str) -> None:
        update = {"data": data, "description": description}
        with get_client(sync_client=True) as client:
            # Not `update_artifact`: that also puts the whole text into an event, for good.
            client.request("PATCH", "/artifacts/{id}", path_params={"id": self._made[key]},
                           json=update)  # fmt: skip


class _Artifacts(logging.Handler):
    """One artifact for each thing that is reported on."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._began: dict[str, tuple[float, int]] = {}
        self._due: dict[str, float] = {}
        self._made: dict[str, UUID] = {}
        self._last: dict[str, tuple[float, str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Takes one report; the server hears of it when it is time."""
        facts, now = record.__dict__, time.monotonic()
        name, done, total = facts["stage"], facts["done"], facts["total"]
        since, first = self._began.setdefault(name, (now, done))
        percent = 100.0 * done / total if total else 100.0
        self._last[name] = percent, _told(done, total, facts["unit"], done - first, now - since)
        if now >= self._due.setdefault(name, now + AFTER_SECONDS):
            self._due[name] = now + EVERY_SECONDS
            self._show(name)

    def finish(self) -> None:
        """Shows how far everything came that was shown before."""
        for name in self._made:
            self._show(name)

    def _show(self, name: str) -> None:
        percent, told = self._last[name]
        # Nothing stops because nobody can look.
        with suppress(httpx.HTTPError):
            if name in self._made:
                update_progress_artifact(self._made[name], progress=percent, description=told)
                return
            key = re.sub(r"[^a-z0-9]+", "-", f"progress-{name}".lower()).strip("-")
            made = create_progress_artifact(percent, key=key, description=told)
            self._made[name] = made  # type: ignore[assignment]


def _told(done: int, total: int, unit: str, finished: int, seconds: float) -> str:
    text = f"{done:,} of {total:,} {unit}"
    if finished > 0 and seconds > 0:
        minutes, rest = divmod(round((total - done) * seconds / finished), 60)
        text += f", {finished / seconds:.3g} per second, {minutes}:{rest:02} left"
    return text
