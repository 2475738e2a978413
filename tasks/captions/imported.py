"""Imported: what a table of captions that people edited asks for."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks.captions.chosen import Target
from tasks.captions.csv_file import Row
from tasks.config.problems import Problem
from tasks.wording.resolve import EDITED

_LINE_END = re.compile(r"\r\n|\r|\n")


class Standing(Protocol):
    """A tile and its text as it is now: a `Captioned` of tasks.pipeline."""

    @property
    def target(self) -> Target: ...  # noqa: D102
    @property
    def prompts(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def origin(self) -> str: ...  # noqa: D102
    @property
    def without_edit(self) -> tuple[str, ...]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Changes:
    """What a table changes."""

    texts: Mapping[bytes, list[str] | None]
    """The new prompts by view_id; None takes an edit back."""
    num_unchanged: int
    """Tiles of the table that stay as they are."""
    problems: tuple[Problem, ...]
    """Because of which nothing may be changed."""


@dataclass(frozen=True, slots=True)
class _Says:
    """What one row asks for."""

    row: Row
    prompts: tuple[str, ...] | None
    """Of an edit; None: to take one back."""
    is_stale: bool = False
    """As it was exported, before another row gave the tile its edit: that one counts."""


def caption_cell(prompts: Sequence[str]) -> str:
    """Prompts as a cell holds them: one per line."""
    return "\n".join(_LINE_END.sub(" ", prompt) for prompt in prompts)


def cell_prompts(cell: str) -> tuple[str, ...]:
    """The prompts in a cell (NFC): its lines that are not blank."""
    text = unicodedata.normalize("NFC", cell.encode("utf-8", "replace").decode())
    return tuple(line.strip() for line in _LINE_END.split(text) if line.strip())


def changes(now: Iterable[Standing], rows: Iterable[Row]) -> Changes:
    """What rows of a table change in what is there now.

    A caption that is as it is now changes nothing. One that is set to what the tile would train on
    without its edit takes the edit back. Any other one is an edit; an empty one is the empty
    prompt. A tile that several concepts share has one edit, so one of its rows is enough.

    Args:
        now: every tile that the configuration has.
        rows: of the table.
    """
    standing: dict[bytes, list[Standing]] = {}
    for one in now:
        standing.setdefault(one.target.view_id, []).append(one)
    rows_of: dict[bytes, list[Row]] = {}
    for row in rows:
        rows_of.setdefault(row.view_id, []).append(row)
    texts: dict[bytes, list[str] | None] = {}
    problems: list[Problem] = []
    for view, given in rows_of.items():
        if view not in standing:
            problems.append(_unknown(given[0]))
            continue
        asked = _asked(standing[view], given)
        if len({one.prompts for one in asked}) > 1:
            problems.append(_contradiction(asked))
        elif asked:
            prompts = asked[0].prompts
            texts[view] = None if prompts is None else list(prompts)
    return Changes(texts, len(rows_of) - len(texts), tuple(problems))


def _asked(standing: Sequence[Standing], rows: Sequence[Row]) -> list[_Says]:
    """What the rows of one tile ask for; nothing where all of them are as it is."""
    said = [_says(_owners(standing, row), row) for row in rows]
    newer = [one for one in said if one is None or not one.is_stale]
    return [one for one in newer or said if one is not None]


def _owners(standing: Sequence[Standing], row: Row) -> Sequence[Standing]:
    """The tile in the concept of a row; in all of them where it names none that has it."""
    return [one for one in standing if one.target.concept == row.concept] or standing


def _says(standing: Sequence[Standing], row: Row) -> _Says | None:
    wanted = cell_prompts(row.caption)
    if any(wanted == _prompts(one.prompts) for one in standing):
        return None
    edited = [one for one in standing if one.origin == EDITED]
    if any(wanted == _prompts(one.without_edit) for one in edited):
        return _Says(row, None, is_stale=row.origin not in ("", EDITED))
    return _Says(row, wanted)


def _prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """Prompts as they come back from a cell."""
    return cell_prompts(caption_cell(prompts))


def _unknown(row: Row) -> Problem:
    message = (
        "there is no such tile with these settings; export anew, or give the settings with which "
        "the table was made"
    )
    return Problem(f"{row.place}, view_id", message, row.view_id.hex())


def _contradiction(asked: Sequence[_Says]) -> Problem:
    places = " and ".join(one.row.place for one in asked[:3])
    message = "give one tile different captions; keep one of these rows, or make them equal"
    return Problem(places, message, asked[0].row.view_id.hex())
