"""Captions: the texts that tiles have of their own, instead of their source's.

Today these are edits: what people wrote into the sidecars of exported tiles. Whatever happens to
such a text is an item of the store (edited, edited again, withdrawn), and the newest item of a view
is what counts, wherever the exported files have gone. So an edit is lost only when its sidecar is
set back to what it would be without.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest, digest_json, hexkey
from storage.naming import now_iso
from storage.records import CAPTIONS, K
from storage.shards import RecordWriter
from tasks.arrow import as_array, with_columns
from tasks.captions.sidecars import Said, read_sidecars
from tasks.export.tiles import saving_concepts
from tasks.imaging.samples import kept_samples
from tasks.stage import Checked, Context, Report, Stage, Tables, Wanted, compare
from tasks.wording.resolve import EDITED

VERSION = 1
WITHDRAWN = "withdrawn"
"""Origin of an item that takes an edit back."""
COLUMNS = pa.schema(
    [
        ("key", K),
        ("logical", pa.string()),
        ("group", pa.string()),
        ("view_id", K),
        ("prompts", pa.list_(pa.string())),
        ("origin", pa.string()),
        ("reason", pa.string()),
        ("certain", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Item:
    """What became of the text of a view: edited, or withdrawn."""

    key: bytes
    prompts: list[str] | None
    origin: str


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per kept tile whose sidecar was edited, now or in an earlier run."""
    facts = {"stage": "captions", "version": VERSION}
    stage_id = hexkey(digest_json("stage", facts))
    known = _newest(context, stage_id)
    rows: list[dict[str, Any]] = []
    if known or saving_concepts(context.config):
        kept = kept_samples(upstream["crops"])
        tiles = kept.filter(pc.not_equal(kept["kind"], "full"))
        said = read_sidecars(context.config, tiles, upstream, known)
        rows = list(_rows(tiles, said, known))
    return Wanted(stage_id, pa.Table.from_pylist(rows, schema=COLUMNS), {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Edits read before are not read again; a sidecar that cannot be read is bad each time."""
    return compare(
        context,
        "captions",
        wanted,
        committed=context.committed("captions", wanted.stage_id, ["key"]),
        bad=wanted.table.filter(pc.is_valid(wanted.table["reason"])).select(["key", "reason"]),
        changed_reason="the sidecar was edited",
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Commits what sidecars say."""
    flush_seconds = context.config.store.flush_seconds
    with RecordWriter(
        context.store, "captions", wanted.stage_id, CAPTIONS, flush_seconds=flush_seconds
    ) as writer:
        made_at = now_iso()
        for row in missing.select(["key", "view_id", "prompts", "origin"]).to_pylist():
            writer.add(row | {"made_at": made_at})
            report(1)


def manifest(context: Context, checked: Checked) -> pa.Table:
    """The tiles with a text of their own: view_id, `prompts` and `origin` (edited)."""
    table = checked.wanted.table
    edits = pc.and_(pc.equal(table["origin"], EDITED), pc.is_null(table["reason"]))
    if not context.dry_run:
        committed = context.committed("captions", checked.wanted.stage_id, ["key"])
        edits = pc.and_(edits, pc.is_in(table["key"], as_array(committed["key"])))
    return table.filter(edits).select(["key", "view_id", "prompts", "origin", "logical"])


def _newest(context: Context, stage_id: str) -> dict[bytes, Item]:
    """The newest item of every view; the index gives the newest first."""
    columns = ["view_id", "key", "prompts", "origin"]
    items = context.committed("captions", stage_id, columns)
    newest: dict[bytes, Item] = {}
    for view, key, prompts, origin in zip(*items.to_pydict().values(), strict=True):
        if origin in (EDITED, WITHDRAWN):
            newest.setdefault(view, Item(key, prompts, origin))
    return newest


def _rows(
    tiles: pa.Table, said_of: dict[bytes, Said], known: dict[bytes, Item]
) -> Iterator[dict[str, Any]]:
    """The wanted items, in the order of their views."""
    views = as_array(tiles["view_id"])
    concerned = pa.array([*said_of, *known], K)
    tiles = with_columns(tiles.select(["certain"]), view_id=views).filter(
        pc.is_in(views, concerned)
    )
    kept = tiles.group_by("view_id").aggregate([("certain", "max")]).sort_by("view_id")
    for view, certain in zip(*kept.to_pydict().values(), strict=True):
        shared = {"logical": hexkey(view), "group": hexkey(view)}
        shared |= {"view_id": view, "certain": certain}
        said, last = said_of.get(view), known.get(view)
        if said is not None and said.verdict == "unreadable":
            key = digest("unreadable sidecar", view)
            bad = {"key": key, "group": said.path, "origin": EDITED, "reason": said.reason}
            yield shared | bad | {"logical": f"{hexkey(view)}|unreadable"}
            said = None
        item = _item(view, said, last)
        if item is not None:
            yield shared | {"key": item.key, "prompts": item.prompts, "origin": item.origin}


def _item(view: bytes, said: Said | None, last: Item | None) -> Item | None:
    """The item that a sidecar asks for, else the edit that the store has.

    The same text may come, go and come back: the key names also the item before.
    """
    edit = last if last is not None and last.origin == EDITED else None
    before = b"" if last is None else last.key
    if said is None:
        return edit
    if said.verdict == WITHDRAWN:
        return edit and Item(digest("withdrawn", view, before), None, WITHDRAWN)
    prompts = list(said.prompts) or [""]
    if edit is not None and edit.prompts == prompts:
        return edit
    return Item(digest("edit", view, before, *prompts), prompts, EDITED)


STAGE = Stage(
    name="captions",
    after=("prompts", "crops"),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=5000,
)
