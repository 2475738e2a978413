"""What changed since the version before, per source and in the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrow import as_array, leading_uint64
from tasks.report.inputs import ints, source_names
from tasks.report.prompts import joined_prompts

CHANGES = ("added", "removed", "replaced", "renamed", "recropped", "reprompted", "varied")
"""`replaced`: other content under the same path; `recropped`: other views of the same content;
`reprompted`: other prompts for a view that was there; `varied`: other augmentation of such a view.
"""

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))


@dataclass(frozen=True, slots=True)
class Changes:
    """Names (`concept NUL path`) of the sources that changed, by the kind of change."""

    names: Mapping[str, list[str]]
    before: Mapping[str, str] = field(default_factory=dict)
    """What a renamed source was called."""


def compare_versions(rows: pa.Table, previous: pa.Table) -> Changes:
    """What happened to every source that either version has."""
    new, old = _with_prompt_codes(rows, previous)
    now, then = _signatures(new, old), _signatures(old, new)
    both = now.join(then, keys=["concept", "id"], join_type="inner", right_suffix="_then")
    gone = _without(then, both)
    came = _without(now, both)
    kept = pa.array(np.asarray(pc.is_in(came["name"], as_array(gone["name"]))))
    replaced = came.filter(kept)["name"]
    moved = both.filter(pc.not_equal(both["name"], both["name_then"])).sort_by("name")
    same = {
        change: both.filter(pc.not_equal(both[column], both[f"{column}_then"]))["name"]
        for change, column in (
            *(("recropped", "views"), ("reprompted", "prompts"), ("varied", "samples")),
        )
    }
    found = {
        "added": came.filter(pc.invert(kept))["name"],
        "removed": gone.filter(pc.invert(pc.is_in(gone["name"], as_array(replaced))))["name"],
        "replaced": replaced,
        "renamed": moved["name"],
        **same,
    }
    return Changes(
        {change: sorted(set(found[change].to_pylist())) for change in CHANGES},
        dict(zip(moved["name"].to_pylist(), moved["name_then"].to_pylist(), strict=True)),
    )


def changed_settings(now: Any, then: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """(name, then, now) of every setting that differs; concepts are matched by their names."""
    if isinstance(now, list) and isinstance(then, list) and name == "concepts":
        now, then = _by_name(now), _by_name(then)
    if not isinstance(now, dict) or not isinstance(then, dict):
        return [] if now == then else [(name, then, now)]
    found = []
    for key in dict.fromkeys([*then, *now]):
        inner = f"{name}.{key}" if name else key
        found += changed_settings(now.get(key), then.get(key), inner)
    return found


def _with_prompt_codes(rows: pa.Table, previous: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both tables with what tells sources and rows apart, prompts numbered alike in both."""
    both = pa.concat_arrays([joined_prompts(rows), joined_prompts(previous)])
    codes = ints(both.dictionary_encode().indices)
    parts = (rows, codes[: rows.num_rows]), (previous, codes[rows.num_rows :])
    new, old = (_hashed(table, prompts) for table, prompts in parts)
    return new, old


def _hashed(rows: pa.Table, prompts: NDArray[np.int64]) -> pa.Table:
    view = leading_uint64(rows["view_id"])
    return pa.table(
        {
            "concept": as_array(rows["concept"]),
            "id": as_array(rows["source_id"]),
            "name": source_names(rows),
            "views": view,
            "prompts": _mixed(view, prompts.astype(np.uint64)),
            "samples": _mixed(view, leading_uint64(rows["sample_id"])),
        }
    )


def _signatures(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Per source: a number that stands for its views, and for what is said of common views."""
    common = pc.is_in(rows["views"], pc.unique(others["views"]))
    source = ["concept", "id"]
    table = rows.group_by(source).aggregate([("name", "min")])
    table = table.rename_columns([*source, "name"])
    for column, chosen in (
        ("views", rows),
        ("prompts", rows.filter(common)),
        ("samples", rows.filter(common)),
    ):
        distinct = chosen.group_by([*source, column]).aggregate([])
        numbers = distinct.set_column(2, column, _spread(distinct[column]))
        summed = numbers.group_by(source).aggregate([(column, "sum")])
        summed = summed.rename_columns([*source, column])
        table = table.join(summed, keys=source, join_type="left outer")
    known = {name: table[name] for name in (*source, "name")}
    sums = {name: pc.fill_null(table[name], 0) for name in ("views", "prompts", "samples")}
    return pa.table({**known, **sums})


def _without(table: pa.Table, both: pa.Table) -> pa.Table:
    keys = ["concept", "id"]
    return table.join(both.select(keys), keys=keys, join_type="left anti")


def _mixed(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> pa.Array:
    with np.errstate(over="ignore"):
        return pa.array(first * _MIX[0] + (second + np.uint64(1)) * _MIX[1])


def _spread(values: pa.ChunkedArray) -> pa.Array:
    """Numbers whose sum stands for the set of them: 40 bits each, so that no sum overflows."""
    numbers = np.asarray(as_array(values), dtype=np.uint64)
    with np.errstate(over="ignore"):
        numbers = (numbers ^ (numbers >> np.uint64(31))) * _MIX[1]
    return pa.array((numbers >> np.uint64(24)).astype(np.int64))


def _by_name(concepts: list[Any]) -> dict[str, Any]:
    return {str(concept.get("name")): concept for concept in concepts}
