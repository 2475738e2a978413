"""Builds the tables of a report from real image files, with the real geometry and measures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.digest import digest_bytes
from storage.records import DATASET, QUARANTINE
from tasks.imaging.blank import is_blank, measure
from tasks.imaging.buckets import bucket_sizes, choose_bucket, cover
from tasks.imaging.decode import decode, probe
from tasks.imaging.grid import resized_size, tile_grid
from tasks.imaging.views import View, cut_views, view_id
from tasks.report.inputs import SCANNED, VIEWS

RESOLUTION = 256
COUNTS = {
    "scan": {"wanted": 6, "reused": 4, "computed": 2, "new": 2, "changed": 0, "removed": 1,
             "rejected": 1, "exact": True, "reasons": {"new file": 2}},
    "crops": {"wanted": 80, "reused": 60, "computed": 20, "new": 20, "changed": 0, "removed": 0,
              "rejected": 0, "exact": False, "reasons": {"new source": 20}},
}  # fmt: skip


def views_of(
    width: int, height: int, scales: Sequence[float] = (2.0,), context: bool = True
) -> list[View]:
    """A full view, tiles of every scale and context tiles of one source."""
    bucket = choose_bucket(width, height, bucket_sizes(RESOLUTION, 8))
    crop = cover(width, height, bucket)
    views = [View("full", 1.0, crop.resized, crop.rect, bucket)]
    wanted = [("detail", scale, round(RESOLUTION * scale)) for scale in scales]
    if context:
        wanted.append(("context", 1.0, RESOLUTION))
    for kind, scale, short in wanted:
        size = resized_size(width, height, short)
        views += [
            View(kind, scale, size, (left, top, RESOLUTION, RESOLUTION), (RESOLUTION, RESOLUTION))
            for left, top in tile_grid(*size, RESOLUTION, RESOLUTION // 8)
        ]
    return views


def measured(
    concept: str, path: Path, threshold: float = 0.02, **options: Any
) -> list[dict[str, Any]]:
    """The VIEWS rows of one image file."""
    pixels = decode(path.read_bytes())
    source = digest_bytes(path.read_bytes())
    views = views_of(pixels.shape[1], pixels.shape[0], **options)
    rows = []
    for view, tile in cut_views(pixels, views):
        std, edges = measure(tile)
        reason = None if view.kind == "full" else is_blank(std, edges, threshold, 0)
        rows.append(view_row(concept, str(path), source, view, (std, edges), reason))
    return rows


def view_row(
    concept: str,
    path: str,
    source: bytes,
    view: View,
    numbers: tuple[float, float] = (0.1, 0.05),
    reason: str | None = None,
) -> dict[str, Any]:
    names = ("left", "top", "width", "height")
    return {
        "key": view_id(source, view), "concept": concept, "path": path, "kind": view.kind,
        "scale": view.scale, **dict(zip(names, view.rect, strict=True)),
        "resized_width": view.resized[0], "resized_height": view.resized[1],
        "luma_std": numbers[0], "edge_share": numbers[1], "dropped_reason": reason,
    }  # fmt: skip


def samples(
    views: Sequence[dict[str, Any]], size: tuple[int, int], prompts: list[str], origin: str
) -> list[dict[str, Any]]:
    """DATASET rows of the views that are kept (columns that no report reads stay null)."""
    kept = [view for view in views if view["left"] is not None and not view["dropped_reason"]]
    bucket = choose_bucket(*size, bucket_sizes(RESOLUTION, 8))
    return [
        {
            **{name: value for name, value in view.items() if name in DATASET.names},
            "row_id": view["key"], "sample_id": view["key"], "view_id": view["key"],
            "source_id": digest_bytes(view["path"].encode()),
            "original_width": size[0], "original_height": size[1],
            "bucket_width": bucket[0] if view["kind"] == "full" else RESOLUTION,
            "bucket_height": bucket[1] if view["kind"] == "full" else RESOLUTION,
            "resolution_index": 0, "variation": 0, "split": "train", "prompts": prompts,
            "prompt_origin": origin if view["kind"] == "full" or not prompts else "inherited",
            "repeats": 1.0, "loss_weight": 1.0,
        }
        for view in kept
    ]  # fmt: skip


def reject(path: str, reason: str, stage: str = "scan") -> dict[str, Any]:
    return {
        "key": digest_bytes(path.encode()), "stage": stage, "stage_id": "1", "source_id": None,
        "path": path, "reason": reason, "first_seen": "2026-11-23T08:00:00Z", "attempts": 1,
    }  # fmt: skip


def scanned(concept: str, path: Path) -> dict[str, Any]:
    header = probe(path.read_bytes())
    return {
        "concept": concept, "path": str(path), "width": header.width, "height": header.height,
        "format": header.format, "mode": header.mode,
    }  # fmt: skip


def tables(
    views: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    scan: list[dict[str, Any]],
    rejects: Sequence[dict[str, Any]] = (),
) -> dict[str, pa.Table]:
    """The table arguments of `build_report`."""
    return {
        "rows": pa.Table.from_pylist(rows, schema=DATASET),
        "crops": pa.Table.from_pylist(views, schema=VIEWS),
        "scan": pa.Table.from_pylist(scan, schema=SCANNED),
        "rejects": pa.Table.from_pylist(list(rejects), schema=QUARANTINE),
    }
