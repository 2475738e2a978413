"""The tile grids of a report: views sorted by source and grid, cut into parts for the page.

A part covers some sources and is decoded by the page only when one of them is shown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow import as_array, leading_uint64
from tasks.report.inputs import Ints, Sources, Tables, ints
from tasks.report.prompts import Prompts, kind_codes

PART_SOURCES = 128
MAX_VALUES = 250_000
"""Augmented samples of which the page says the values; of more it says none."""
TEN_THOUSANDTHS = 10_000
"""Measures are written as whole ten-thousandths."""

_GRID = (
    *("source", "kind", "scale", "resolution", "phase", "canvas_width", "canvas_height"),
    *("width", "height", "bucket_width", "bucket_height"),
)
_LONG = re.compile(r"-?\d+\.\d{4,}(e-?\d+)?")


@dataclass(frozen=True, slots=True)
class Grids:
    """All grids with their tiles, as columns; `*_starts` have one entry more than there are."""

    grid: dict[str, Ints]
    tile_starts: Ints
    """First tile of each grid."""
    tile: dict[str, Ints]
    """left, top, std, edge, reason (-1: kept) and prompts (-1: those of its source)."""
    value_starts: Ints
    """First entry of each tile in `values`: one per variation."""
    values: Ints
    """Augmentation of each variation, a place in `value_texts`."""
    value_texts: list[str]
    reasons: list[str]
    scales: list[float]
    phases: Ints
    """Per grid, how many grids take turns with it."""


def sort_views(tables: Tables, sources: Sources, prompts: Prompts) -> Grids:
    """The views of all sources, by grid."""
    cut = tables.views.filter(pc.is_valid(tables.views["left"]))
    columns, scales = _columns(cut, sources)
    order = np.lexsort([columns[name] for name in ("variation", "left", "top", *_GRID[::-1])])
    columns = {name: column[order] for name, column in columns.items()}
    views = cut.take(pa.array(order))
    new_grid = _changes([columns[name] for name in _GRID])
    new_tile = new_grid | _changes([columns["left"], columns["top"]])
    first, grids = np.flatnonzero(new_tile), np.flatnonzero(new_grid)
    tiles = views.take(pa.array(first))
    reasons = as_array(tiles["dropped_reason"]).dictionary_encode()
    values = as_array(views["augmentation"]).dictionary_encode()
    return Grids(
        grid={name: columns[name][grids] for name in _GRID},
        tile_starts=np.append(np.searchsorted(first, grids), len(first)),
        tile={
            "left": columns["left"][first],
            "top": columns["top"][first],
            "std": _measures(tiles["luma_std"]),
            "edge": _measures(tiles["edge_share"]),
            "reason": ints(reasons.indices),
            "prompts": _own_prompts(tables.rows, tiles, sources, prompts),
        },
        value_starts=np.append(first, len(order)),
        values=ints(values.indices),
        value_texts=[_LONG.sub(_shorter, text) for text in values.dictionary.to_pylist()],
        reasons=reasons.dictionary.to_pylist(),
        scales=scales,
        phases=columns["phases"][grids],
    )


def parts(grids: Grids, num_sources: int, *, measures: bool, values: bool) -> Iterator[Any]:
    """JSON values of PART_SOURCES sources each.

    Args:
        grids: All of them.
        num_sources: How many sources there are.
        measures: Whether kept tiles have their measures; dropped ones always do.
        values: Whether samples have their augmentation.
    """
    values = values and len(grids.value_texts) > 0 and len(grids.values) <= MAX_VALUES
    for start in range(0, num_sources, PART_SOURCES):
        sources = np.arange(start, min(start + PART_SOURCES, num_sources) + 1)
        bounds = np.searchsorted(grids.grid["source"], sources)
        yield _part(grids, bounds, measures=measures, values=values)


def _part(grids: Grids, bounds: Ints, *, measures: bool, values: bool) -> dict[str, Any]:
    """`bounds`: the first grid of each source, and one more."""
    chosen = slice(bounds[0], bounds[-1])
    starts = grids.tile_starts[bounds[0] : bounds[-1] + 1]
    tiles = slice(starts[0], starts[-1])
    used = _renumber(grids.tile["reason"][tiles])
    told = grids.tile["reason"][tiles] >= 0
    part: dict[str, Any] = {
        "grids": (bounds - bounds[0]).tolist(),
        "tiles": (starts - starts[0]).tolist(),
        "phases": grids.phases[chosen].tolist(),
        **{name: grids.grid[name][chosen].tolist() for name in _GRID[1:]},
        **{name: grids.tile[name][tiles].tolist() for name in ("left", "top", "prompts")},
        "reason": used[0].tolist(),
        "reasons": [grids.reasons[number] for number in used[1].tolist()],
    }
    for name in ("std", "edge"):
        column = grids.tile[name][tiles]
        part[name] = (column if measures else np.where(told, column, -1)).tolist()
    first = grids.value_starts[tiles.start : tiles.stop + 1]
    part["variations"] = np.diff(first).tolist()
    if values:
        places, texts = _renumber(grids.values[first[0] : first[-1]])
        part["values"] = places.tolist()
        part["texts"] = [grids.value_texts[number] for number in texts.tolist()]
    return part


def _columns(cut: pa.Table, sources: Sources) -> tuple[dict[str, Ints], list[float]]:
    """The geometry of the views as numbers, and the scales that they name by place."""
    scales = as_array(cut["scale"]).dictionary_encode()
    names = ("left", "top", "width", "height", "bucket_width", "bucket_height", "variation")
    columns = {name: ints(cut[name]) for name in names}
    full = kind_codes(cut["kind"]) == 0
    for side in ("width", "height"):
        whole, resized = ints(cut[f"original_{side}"]), ints(cut[f"resized_{side}"])
        columns[f"canvas_{side}"] = np.where(full, whole, resized)
    columns |= {
        "source": sources.numbers(cut),
        "kind": kind_codes(cut["kind"]),
        "scale": ints(scales.indices),
        "resolution": ints(cut["resolution_index"]),
        "phase": ints(cut["phase"]),
        "phases": ints(cut["num_phases"], 1),
    }
    order = np.argsort(np.asarray(scales.dictionary, dtype=np.float64))
    columns["scale"] = np.argsort(order)[columns["scale"]] if len(order) else columns["scale"]
    return columns, [round(scale, 6) for scale in np.asarray(scales.dictionary)[order].tolist()]


def _changes(columns: list[Ints]) -> np.ndarray:
    """Where a row differs from the one before; the first one does."""
    changed = np.zeros(len(columns[0]), dtype=np.bool_)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


def _own_prompts(rows: pa.Table, tiles: pa.Table, sources: Sources, prompts: Prompts) -> Ints:
    """The set of each tile that differs from its source's; of several variations, the first's."""
    row = _source_and_view(sources.numbers(rows), rows["view_id"])
    order = np.lexsort([ints(rows["variation"], 0), row])
    known, first = np.unique(row[order], return_index=True)
    source = sources.numbers(tiles)
    wanted = _source_and_view(source, tiles["key"])
    if not len(known):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found = np.where(known[at] == wanted, prompts.of_row[order][first][at], -1)
    return np.where(found == prompts.main[source], -1, found)


def _source_and_view(source: Ints, views: pa.ChunkedArray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return leading_uint64(views) ^ (source.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _measures(values: pa.ChunkedArray) -> Ints:
    numbers = np.asarray(pc.fill_null(as_array(values), -1), dtype=np.float64)
    return np.where(numbers < 0, -1, np.rint(numbers * TEN_THOUSANDTHS)).astype(np.int64)


def _renumber(places: Ints) -> tuple[Ints, Ints]:
    """The places, counted from 0 without gaps (-1 stays), and which ones they were."""
    used, numbers = np.unique(places, return_inverse=True)
    missing = int(len(used) > 0 and used[0] < 0)
    return numbers.reshape(-1) - missing, used[missing:]


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.4g}"
