"""The numbers of a report: samples by kind, scale, bucket and concept, missing captions, stages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.epochs.outlook import ENLARGED, enlargement
from tasks.report.inputs import KINDS

STAGES = ("scan", "prompts", "crops", "captions", "masks", "text", "latents")
STAGE_COUNTS = ("wanted", "reused", "computed", "new", "changed", "removed", "rejected")


def kind_counts(rows: pa.Table) -> dict[str, int]:
    """How many rows there are of every kind that occurs."""
    counted = rows.group_by("kind").aggregate([([], "count_all")])
    found = dict(zip(*counted.select(["kind", "count_all"]).to_pydict().values(), strict=True))
    return {kind: found[kind] for kind in KINDS if kind in found}


def scale_table(rows: pa.Table, views: pa.Table) -> list[dict[str, Any]]:
    """Return per kind and scale: views measured, kept and dropped, samples, enlargement."""
    cut = views.filter(pc.is_valid(views["left"]))
    measured = _count_views(cut)
    dropped = _count_views(cut.filter(pc.is_valid(cut["dropped_reason"])))
    without = _count_views(views.filter(pc.is_null(views["left"])))
    samples = _samples_by_scale(rows)
    keys = sorted({*measured, *without, *samples}, key=lambda key: (KINDS.index(key[0]), key[1]))
    return [
        {
            "kind": kind,
            "scale": scale,
            "measured": measured.get((kind, scale), 0),
            "dropped": dropped.get((kind, scale), 0),
            "without": without.get((kind, scale), 0),
            **samples.get((kind, scale), {"samples": 0, "enlarged": 0, "factor": None}),
        }
        for kind, scale in keys
    ]


def _count_views(views: pa.Table) -> dict[tuple[str, float], int]:
    """Different views by kind and scale, however often each is varied or repeated."""
    named = views.group_by(["kind", "scale", "concept", "path", "key"]).aggregate([])
    counted = named.group_by(["kind", "scale"]).aggregate([([], "count_all")])
    return {(row["kind"], row["scale"]): row["count_all"] for row in counted.to_pylist()}


def _samples_by_scale(rows: pa.Table) -> dict[tuple[str, float], dict[str, Any]]:
    factor = enlargement(rows)
    table = rows.select(["kind", "scale"]).append_column("factor", pa.array(factor))
    table = table.append_column("enlarged", pa.array((factor > ENLARGED).astype(np.int64)))
    found = table.group_by(["kind", "scale"]).aggregate(
        [([], "count_all"), ("enlarged", "sum"), ("factor", "max")]
    )
    return {
        (row["kind"], row["scale"]): {
            "samples": row["count_all"],
            "enlarged": row["enlarged_sum"],
            "factor": row["factor_max"],
        }
        for row in found.to_pylist()
    }


def bucket_histogram(rows: pa.Table) -> list[dict[str, Any]]:
    """Return buckets from the widest to the tallest, each with its samples by kind."""
    found = rows.group_by(["bucket_width", "bucket_height", "kind"]).aggregate([([], "count_all")])
    buckets: dict[tuple[int, int], dict[str, int]] = {}
    for row in found.to_pylist():
        size = (row["bucket_width"], row["bucket_height"])
        buckets.setdefault(size, {})[row["kind"]] = row["count_all"]
    order = sorted(buckets, key=lambda size: (-size[0] / size[1], size))
    return [
        {
            "size": f"{size[0]}×{size[1]}",
            "kinds": buckets[size],
            "total": sum(buckets[size].values()),
        }
        for size in order
    ]


def concept_table(rows: pa.Table, scan: pa.Table) -> list[dict[str, Any]]:
    """Return one line per concept: files, samples by kind, where prompts come from, settings."""
    names = sorted({*scan["concept"].unique().to_pylist(), *rows["concept"].unique().to_pylist()})
    files = _counts(scan, "concept")
    kinds, origins = _counts(rows, "concept", "kind"), _counts(rows, "concept", "prompt_origin")
    settings = ["split", "repeats", "samples_per_epoch", "tiles_per_epoch", "loss_weight"]
    first = rows.group_by("concept", use_threads=False).aggregate(
        [(name, "first") for name in settings]
    )
    known = {row["concept"]: {n: row[f"{n}_first"] for n in settings} for row in first.to_pylist()}
    return [
        {
            "name": name,
            "files": files.get((name,), 0),
            "kinds": {kind: kinds.get((name, kind), 0) for kind in KINDS},
            "origins": sorted(
                ((key[1] or "none", count) for key, count in origins.items() if key[0] == name),
                key=lambda item: (-item[1], item[0]),
            ),
            **known.get(name, dict.fromkeys(settings)),
        }
        for name in names
    ]


def _counts(table: pa.Table, *by: str) -> dict[tuple[Any, ...], int]:
    counted = table.group_by(list(by)).aggregate([([], "count_all")])
    return {tuple(row[name] for name in by): row["count_all"] for row in counted.to_pylist()}


def is_uncaptioned(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows train on an empty prompt because their source has none.

    A tile that its concept gives the empty prompt has a `context`, its source's own prompt.
    """
    no_text = pc.fill_null(pc.equal(pc.list_value_length(rows["prompts"]), 0), True)
    none = pc.or_(pc.fill_null(pc.equal(rows["prompt_origin"], "none"), True), no_text)
    return pc.and_(none, pc.equal(pc.fill_null(rows["context"], ""), ""))


def missing_captions(rows: pa.Table) -> list[tuple[str, str]]:
    """Return the (concept, path) of sources that have samples but no prompt.

    Reads the columns concept, path, prompts, prompt_origin and context.
    """
    found = rows.filter(is_uncaptioned(rows)).select(["concept", "path"])
    names = found.group_by(["concept", "path"]).aggregate([]).to_pylist()
    return sorted((row["concept"], row["path"]) for row in names)


def stage_table(counts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one line per stage that ran, in the order of the pipeline."""
    names = [name for name in STAGES if name in counts]
    names += sorted(name for name in counts if name not in STAGES)
    return [
        {
            "name": name,
            "numbers": [counts[name].get(field) for field in STAGE_COUNTS],
            "exact": counts[name].get("exact", True),
            "reasons": _reasons(counts[name].get("reasons", {})),
        }
        for name in names
    ]


def _reasons(reasons: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(reasons.items(), key=lambda item: (-_number(item[1]), item[0]))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
