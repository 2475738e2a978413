"""The numbers of a report: samples by kind and scale, shares of steps, buckets, enlargement."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KINDS = ("full", "detail", "context")
STAGES = ("scan", "prompts", "crops", "captions", "text", "latents")
STAGE_COUNTS = ("wanted", "reused", "computed", "new", "changed", "removed", "rejected")


def step_weights(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return how often each row is trained in an average epoch.

    Rows of a source that are alternatives of each other (resolutions, variations, grid phases)
    take turns, so each counts as its share of the turn. Validation rows are never trained.
    """
    rows = rows.append_column("row", pa.array(range(rows.num_rows), pa.int64()))
    rows = rows.append_column("at", pc.coalesce(rows["phase"], pa.scalar(-1, rows["phase"].type)))
    alike = ["concept", "source_id", "kind"]
    turns = rows.group_by(alike).aggregate(
        [(name, "count_distinct") for name in ("resolution_index", "variation", "at")]
    )
    joined = rows.select([*alike, "row"]).join(turns, keys=alike).sort_by("row")
    weights: np.ndarray[Any, np.dtype[np.float64]] = np.where(
        pc.equal(rows["split"], "validation").to_numpy(), 0.0, rows["repeats"].to_numpy()
    ).astype(np.float64)
    for name in ("resolution_index", "variation", "at"):
        weights = weights / joined[f"{name}_count_distinct"].to_numpy()
    return weights


def kind_shares(rows: pa.Table) -> list[dict[str, Any]]:
    """Return samples and share of an epoch's steps for every kind that occurs."""
    weights = step_weights(rows)
    total = float(weights.sum())
    kinds = rows["kind"].to_numpy(zero_copy_only=False)
    found = [kind for kind in KINDS if (kinds == kind).any()]
    return [
        {
            "kind": kind,
            "samples": int((kinds == kind).sum()),
            "share": float(weights[kinds == kind].sum()) / total if total else 0.0,
        }
        for kind in found
    ]


def scale_table(rows: pa.Table, views: pa.Table) -> list[dict[str, Any]]:
    """Return per kind and scale: views measured, kept and dropped, samples, enlargement."""
    cut = views.filter(pc.is_valid(views["left"]))
    measured = _count(cut)
    dropped = _count(cut.filter(pc.is_valid(cut["dropped_reason"])))
    without = _count(views.filter(pc.is_null(views["left"])))
    samples = _enlargement(rows)
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


def _count(table: pa.Table) -> dict[tuple[str, float], int]:
    counted = table.group_by(["kind", "scale"]).aggregate([([], "count_all")])
    return {(row["kind"], row["scale"]): row["count_all"] for row in counted.to_pylist()}


def _enlargement(rows: pa.Table) -> dict[tuple[str, float], dict[str, Any]]:
    """Count samples whose pixels were made larger than they are in the source."""
    factor = np.maximum(
        rows["resized_width"].to_numpy() / rows["original_width"].to_numpy(),
        rows["resized_height"].to_numpy() / rows["original_height"].to_numpy(),
    )
    # A cover-resize rounds to whole pixels: 512.4 -> 513 of 512 is not an enlargement of note.
    enlarged = pa.array((factor > 1.005).astype(np.int64))
    table = rows.select(["kind", "scale"]).append_column("enlarged", enlarged)
    table = table.append_column("factor", pa.array(factor))
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


def missing_captions(rows: pa.Table) -> list[tuple[str, str]]:
    """Return the (concept, path) of sources with a sample that has no prompt text."""
    none = pc.or_(
        pc.equal(rows["prompt_origin"], "none"), pc.equal(pc.list_value_length(rows["prompts"]), 0)
    )
    found = rows.filter(pc.fill_null(none, True)).select(["concept", "path"])
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
