"""The table of captions of a configuration: written for people, and taken back with their edits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.captions.csv_file import MAX_CELL, Row, read_rows
from tasks.captions.edits import newest_edits
from tasks.captions.imported import caption_cell, changes
from tasks.config.models import Config
from tasks.config.problems import ConfigError, Problem
from tasks.pipeline.caption_sheet import is_listed
from tasks.pipeline.captions import Captioned, captioned, write_edits
from tasks.stage import Context
from tasks.wording.resolve import EDITED


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, in tiles."""

    edited: int
    withdrawn: int
    unchanged: int


def table_rows(found: Iterable[Captioned], *, every: bool) -> list[Row]:
    """The rows of all that is listed, or of every tile."""
    return [_row(one) for one in found if every or is_listed(one)]


def import_table(config: Config, data: bytes, source: str) -> Imported:
    """Takes the captions of a table over into the store; all of them or none.

    Args:
        config: with which the table was made.
        data: the table.
        source: what it is called.

    Raises:
        ConfigError: something in the table is wrong; nothing was changed.
    """
    try:
        rows, problems = read_rows(data)
    except ConfigError as error:
        raise ConfigError(error.problems, source) from error
    found = captioned(config)
    asked = changes(found, rows)
    problems = [*problems, *asked.problems, *_ahead(config, found, asked.texts)]
    if problems:
        raise ConfigError(problems, source)
    edited, withdrawn = write_edits(config, asked.texts)
    same = asked.num_unchanged + len(asked.texts) - edited - withdrawn
    return Imported(edited, withdrawn, same)


def _row(one: Captioned) -> Row:
    target, answer = one.target, one.answer or {}
    left, top, width, height = map(str, target.view.rect)
    return Row(
        view_id=target.view_id,
        concept=target.concept,
        path=target.path,
        kind=target.view.kind,
        scale=f"{target.view.scale:g}",
        left=left,
        top=top,
        width=width,
        height=height,
        context=target.context[:MAX_CELL],
        origin=one.origin,
        caption=caption_cell(one.prompts),
        generated=(answer.get("answer") or "")[:MAX_CELL],
        unusable=answer.get("unusable") or "",
        model=answer.get("model") or "",
    )


def _ahead(
    config: Config, found: Iterable[Captioned], texts: Mapping[bytes, list[str] | None]
) -> list[Problem]:
    """Tiles to be changed whose sidecar holds an edit that the store does not have yet.

    The next run would take it over and so undo the import.
    """
    known = newest_edits(Context(config, dry_run=True)) if texts else {}
    message = (
        "its sidecar was edited after the last run; run `tilewright prepare` first, then export "
        "anew, so that neither edit is lost"
    )
    problems: dict[bytes, Problem] = {}
    for one in found:
        view = one.target.view_id
        if view in texts and one.origin == EDITED:
            last = known.get(view)
            if last is None or last.prompts != list(one.prompts):
                problems[view] = Problem(one.target.label, message)
    return list(problems.values())
