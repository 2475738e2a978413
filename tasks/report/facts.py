"""The facts of every source as columns: size, counts, and marks that a person may filter by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrow import as_array, leading_uint64
from tasks.epochs.outlook import ENLARGED, enlargement
from tasks.imaging.header import frames_note
from tasks.report.changes import Changes
from tasks.report.inputs import REJECTED, Ints, Sources, Tables, ints
from tasks.report.prompts import OWN, Prompts, kind_codes
from tasks.report.summary import is_uncaptioned

MARKS = {
    "dropped": "with dropped tiles",
    "rejected": "rejected",
    "uncaptioned": "without a caption",
    "own": "with prompts of single tiles",
    "without": "with a scale that gave no tiles",
    "enlarged": "enlarged",
    "animated": "animated or of several pages",
    "duplicate": "equal to another file",
    "unused": "without samples",
    "validation": "for validation",
    "added": "added",
    "replaced": "with other content",
    "renamed": "renamed",
    "recropped": "re-cropped",
    "reprompted": "re-prompted",
    "varied": "augmented otherwise",
}
"""What a source may be, by the name of its mark."""
CHANGED = ("added", "replaced", "renamed", "recropped", "reprompted", "varied")
BITS = {name: 1 << number for number, name in enumerate(MARKS)}


@dataclass(frozen=True, slots=True)
class Facts:
    """Columns of numbers, one entry per source, and what only some sources have."""

    width: Ints
    """Pixels, -1 where unknown."""
    height: Ints
    format: list[str]
    samples: Ints
    kept: Ints
    """Distinct tiles that are trained."""
    dropped: Ints
    factor: NDArray[np.float64]
    """Largest enlargement of a sample; 0 for no samples."""
    kinds: Ints
    """Bits: the kinds of its samples, by their places in KINDS."""
    marks: Ints
    """Bits of BITS."""
    notes: dict[int, list[str]] = field(default_factory=dict)


def source_facts(tables: Tables, sources: Sources, prompts: Prompts, changes: Changes) -> Facts:
    """The facts of all sources."""
    scan = sources.numbers(tables.scan)
    row = sources.numbers(tables.rows)
    width, height = _sizes(tables, sources)
    tiles = tables.views.filter(
        pc.and_(pc.is_valid(tables.views["left"]), pc.not_equal(tables.views["kind"], "full"))
    )
    gone = pc.is_valid(tiles["dropped_reason"])
    factor = np.zeros(len(sources))
    np.maximum.at(factor, row, enlargement(tables.rows))
    kinds = np.zeros(len(sources), dtype=np.int64)
    np.bitwise_or.at(kinds, row, np.left_shift(1, kind_codes(tables.rows["kind"])))
    formats = np.full(len(sources), "", dtype=object)
    formats[scan] = pc.fill_null(tables.scan["format"], "").to_pylist()
    facts = Facts(
        width=width,
        height=height,
        format=formats.tolist(),
        samples=sources.count(tables.rows),
        kept=_distinct(tiles.filter(pc.invert(gone)), sources),
        dropped=_distinct(tiles.filter(gone), sources),
        factor=factor,
        kinds=kinds,
        marks=np.zeros(len(sources), dtype=np.int64),
    )
    _mark(facts, tables, sources, prompts)
    for change in CHANGED:
        _set(facts, change, _numbers_of(sources, changes.names.get(change, [])))
    _note(facts, tables, sources, changes)
    return facts


def _mark(facts: Facts, tables: Tables, sources: Sources, prompts: Prompts) -> None:
    own = pc.is_in(prompts.uses["origin"], pa.array(OWN))
    without = tables.views.filter(pc.is_null(tables.views["left"]))
    held_out = tables.rows.filter(pc.equal(tables.rows["split"], "validation"))
    bare = tables.rows.filter(is_uncaptioned(tables.rows))
    _set(facts, "dropped", np.flatnonzero(facts.dropped))
    _set(facts, "uncaptioned", sources.numbers(bare))
    _set(facts, "own", np.asarray(prompts.uses["source"].filter(own)))
    _set(facts, "without", sources.numbers(without))
    _set(facts, "enlarged", np.flatnonzero(facts.factor > ENLARGED))
    _set(facts, "unused", np.flatnonzero(facts.samples == 0))
    _set(facts, "validation", sources.numbers(held_out))


def _note(facts: Facts, tables: Tables, sources: Sources, changes: Changes) -> None:
    """Marks with a sentence of their own: rejects, equal files, frames, old names."""
    for number, reason in _rejections(tables.rejects, sources):
        _add(facts, "rejected", number, reason)
    for number, other in _duplicates(tables.scan, sources):
        path = sources.paths[other]
        _add(facts, "duplicate", number, f"the same bytes as {path}: both are one source")
    for number, note in _frames(tables.scan, sources):
        _add(facts, "animated", number, note)
    for name, before in changes.before.items():
        was = before.split("\0", 1)[1]
        for number in _numbers_of(sources, [name]).tolist():
            _add(facts, "renamed", number, f"was {was}")
    for number in np.flatnonzero(facts.samples == 0).tolist():
        facts.notes.setdefault(number, ["no samples"])


def _rejections(rejects: pa.Table, sources: Sources) -> Iterable[tuple[int, str]]:
    """(source, why it was rejected) of every concept that has the file."""
    of_path: dict[str, list[int]] = {path: [] for path in rejects["path"].to_pylist()}
    for number, path in enumerate(sources.paths):
        if path in of_path:
            of_path[path].append(number)
    for row in rejects.select(["path", "stage", "reason"]).to_pylist():
        for number in of_path[row["path"]]:
            yield number, f"rejected in {row['stage']}: {row['reason']}"


def _sizes(tables: Tables, sources: Sources) -> tuple[Ints, Ints]:
    """Width and height in pixels, as scanned; else as the rows say."""
    sizes = [np.full(len(sources), -1, dtype=np.int64) for _ in range(2)]
    for size, side in zip(sizes, ("width", "height"), strict=True):
        size[sources.numbers(tables.rows)] = ints(tables.rows[f"original_{side}"])
        size[sources.numbers(tables.scan)] = ints(tables.scan[side])
    return sizes[0], sizes[1]


def _distinct(tiles: pa.Table, sources: Sources) -> Ints:
    """How many different tiles each source has, however often they are varied or repeated."""
    table = pa.table({"source": sources.numbers(tiles), "view": leading_uint64(tiles["key"])})
    found = table.group_by(["source", "view"]).aggregate([])
    return np.bincount(np.asarray(found["source"]), minlength=len(sources))


def _duplicates(scan: pa.Table, sources: Sources) -> Iterable[tuple[int, int]]:
    """(source, the first one with the same bytes in its concept)."""
    numbers = sources.numbers(scan)
    table = pa.table({"concept": scan["concept"], "id": scan["source_id"], "number": numbers})
    keys = ["concept", "id"]
    first = table.group_by(keys).aggregate([("number", "min")])
    both = table.join(first, keys=keys).filter(pc.is_valid(pc.field("id")))
    later = both.filter(pc.not_equal(both["number"], both["number_min"])).sort_by("number")
    return zip(later["number"].to_pylist(), later["number_min"].to_pylist(), strict=True)


def _frames(scan: pa.Table, sources: Sources) -> Iterable[tuple[int, str]]:
    several = scan.filter(pc.greater(scan["frames"], 1))
    columns = several.select(["format", "frames"]).to_pydict().values()
    for number, kind, frames in zip(sources.numbers(several).tolist(), *columns, strict=True):
        if note := frames_note(kind, frames):
            yield number, note


def _numbers_of(sources: Sources, names: list[str]) -> Ints:
    wanted = pc.index_in(pa.array(names, pa.string()), as_array(sources.names))
    return np.asarray(pc.drop_null(wanted), dtype=np.int64)


def _set(facts: Facts, mark: str, numbers: Ints) -> None:
    facts.marks[numbers] |= BITS[mark]


def _add(facts: Facts, mark: str, number: int, note: str) -> None:
    facts.marks[number] |= BITS[mark]
    facts.notes.setdefault(number, []).append(note)


def mark_counts(facts: Facts) -> list[dict[str, Any]]:
    """The marks that some source has: name, bit, what it means, and how many have it."""
    counts: Mapping[str, int] = {
        name: int(np.count_nonzero(facts.marks & bit)) for name, bit in BITS.items()
    }
    return [
        {"name": name, "bit": BITS[name], "label": label, "count": counts[name]}
        for name, label in MARKS.items()
        if counts[name]
    ]


def num_readable(sources: Sources) -> int:
    """How many sources are not only a rejected file."""
    if REJECTED not in sources.concepts:
        return len(sources)
    return int(np.count_nonzero(sources.concept != sources.concepts.index(REJECTED)))
