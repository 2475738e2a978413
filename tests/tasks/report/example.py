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
from tasks.imaging.thumbnail import shrink
from tasks.imaging.views import View, cut_views, view_id
from tasks.report.inputs import SCANNED, VIEWS, Tables

RESOLUTION = 256
ORIGINAL = (1024, 768)
PHOTOS = Path(__file__).parents[3] / "deployments" / "demo" / "photos"
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
    source = source_id(str(path))
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
    """The VIEWS row of one view; `original_*` are filled in by `samples` or by hand."""
    names = ("left", "top", "width", "height")
    return {
        "key": view_id(source, view), "concept": concept, "path": path, "kind": view.kind,
        "scale": view.scale, **dict(zip(names, view.rect, strict=True)),
        "resized_width": view.resized[0], "resized_height": view.resized[1],
        "bucket_width": view.target[0], "bucket_height": view.target[1],
        "original_width": ORIGINAL[0], "original_height": ORIGINAL[1],
        "resolution_index": 0, "variation": 0, "phase": None, "num_phases": 1,
        "luma_std": numbers[0], "edge_share": numbers[1], "augmentation": None,
        "dropped_reason": reason,
    }  # fmt: skip


def samples(
    views: Sequence[dict[str, Any]], prompts: list[str], origin: str = "sidecar"
) -> list[dict[str, Any]]:
    """DATASET rows of the views that are kept (columns that no report reads stay null)."""
    kept = [view for view in views if view["left"] is not None and not view["dropped_reason"]]
    return [
        {
            **{name: value for name, value in view.items() if name in DATASET.names},
            "row_id": view["key"], "sample_id": view["key"], "view_id": view["key"],
            "source_id": source_id(view["path"]), "split": "train", "prompts": prompts,
            "context": prompts[0] if prompts else "",
            "prompt_origin": origin if view["kind"] == "full" or not prompts else "inherited",
            "repeats": 1.0, "loss_weight": 1.0, "tiles_per_epoch": 0,
        }
        for view in kept
    ]  # fmt: skip


def source_id(path: str) -> bytes:
    return digest_bytes(path.encode())


def reject(path: str, reason: str, stage: str = "scan") -> dict[str, Any]:
    return {"stage": stage, "path": path, "reason": reason,
            "first_seen": "2026-11-23T08:00:00Z", "attempts": 1}  # fmt: skip


def scanned(
    concept: str, path: str, size: tuple[int, int] = ORIGINAL, **changes: Any
) -> dict[str, Any]:
    return {"concept": concept, "path": path, "source_id": source_id(path), "width": size[0],
            "height": size[1], "format": "JPEG", "mode": "RGB", "frames": 1, **changes}  # fmt: skip


def invented(
    count: int, **options: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Views, rows and scan of sources of size ORIGINAL that no file stands behind."""
    shapes = views_of(*ORIGINAL, **options)
    views, rows, scan = [], [], []
    for number in range(count):
        concept, path = f"concept {number % 2}", f"folder/image-{number:05}.jpg"
        found = [view_row(concept, path, source_id(path), shape) for shape in shapes]
        views += found
        rows += samples(found, [f"prompt {number}"])
        scan.append(scanned(concept, path))
    return views, rows, scan


def tables(
    views: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    scan: list[dict[str, Any]],
    rejects: Sequence[dict[str, Any]] = (),
    previous: Sequence[dict[str, Any]] | None = None,
) -> Tables:
    """The tables of a report."""
    return Tables(
        rows=pa.Table.from_pylist(rows, schema=DATASET),
        views=pa.Table.from_pylist(views, schema=VIEWS),
        scan=pa.Table.from_pylist(scan, schema=SCANNED),
        rejects=pa.Table.from_pylist(list(rejects), schema=QUARANTINE),
        previous=None if previous is None else pa.Table.from_pylist(list(previous), DATASET),
    )


def photo_tables(names: Sequence[str]) -> tuple[Tables, list[dict[str, Any]], dict[bytes, bytes]]:
    """Tables, views and thumbnails of photos of the demo."""
    views, rows, scan, pictures = [], [], [], {}
    for name in names:
        path = PHOTOS / f"{name}.jpg"
        header = probe(path.read_bytes())
        size = {"original_width": header.width, "original_height": header.height}
        found = [{**view, **size} for view in measured("photos", path, threshold=0.12)]
        scan.append(scanned("photos", str(path), (header.width, header.height)))
        views += found
        rows += samples(found, path.with_suffix(".txt").read_text().splitlines())
        pictures[source_id(str(path))] = shrink(decode(path.read_bytes()))
    return tables(views, rows, scan), views, pictures
