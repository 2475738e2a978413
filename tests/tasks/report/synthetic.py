"""Tables of very many invented sources, with the real geometry and the pictures of photos."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from storage.records import DATASET
from tasks.config.concepts import DetailCrops
from tasks.imaging.buckets import Resolution
from tasks.imaging.layout import Layout, Placed, place_views
from tasks.imaging.thumbnail import shrink
from tasks.report.inputs import REJECT_COLUMNS, SCANNED, VIEWS, Tables

PHOTOS = Path(__file__).parents[3] / "deployments" / "demo" / "photos"
SIZES = (
    *((6000, 4000), (4000, 6000), (4032, 3024), (3024, 4032), (3000, 3000), (5472, 3648)),
    *((7952, 5304), (2048, 1365), (1600, 1200), (6016, 3384), (1080, 1350), (9000, 3000)),
)
TEXT = """a photo of a harbour boat at dusk with calm water and red sails seen from the old stone
pier while gulls circle over nets and soft light falls on wet wood behind fishermen who mend ropes
near the lighthouse in early autumn under drifting clouds"""
LAYOUT = Layout(
    resolutions=(Resolution(512, 512, exact=False),),
    size_multiple=64,
    bucketing=True,
    seed=0,
    jitter=True,
    variations=1,
    grid_phases=1,
    crops=DetailCrops(enabled=True, tile_resolution=512, scales=(2.0,), overlap=32),
)


def many_sources(count: int, *, changed: float = 0.02) -> tuple[Tables, dict[bytes, bytes]]:
    """A dataset version of `count` sources with about ten views each, and its thumbnails.

    Against the version before, `changed` of the sources are new and as many have other prompts.
    """
    random = np.random.default_rng(0)
    kind = random.integers(0, len(SIZES), count)
    scan = _scan(random, kind)
    views = _views(random, scan, kind)
    rows = _rows(views, scan, _prompts(random, count))
    tables = Tables(
        rows=rows,
        views=views.drop_columns(["source_id"]),
        scan=scan,
        rejects=_rejects(count // 100),
        previous=_previous(random, rows, count, changed),
    )
    ids = scan["source_id"].to_pylist()
    chosen = random.integers(0, len(_jpegs()[0]), count).tolist()
    pictures = {
        name: _jpegs()[size][number]
        for name, size, number in zip(ids, kind.tolist(), chosen, strict=True)
    }
    return tables, pictures


def _scan(random: np.random.Generator, kind: np.ndarray) -> pa.Table:
    number = np.arange(len(kind))
    sizes = np.array(SIZES, dtype=np.int32)[kind]
    columns = {
        "concept": [f"concept {n % 5}" for n in number],
        "path": [f"/data/photos/{n % 5}/2026-{n % 12 + 1:02}/IMG_{n:05}.jpg" for n in number],
        "source_id": _keys(random, len(kind)),
        "width": sizes[:, 0],
        "height": sizes[:, 1],
        "format": ["JPEG"] * len(kind),
        "mode": ["RGB"] * len(kind),
        "frames": np.ones(len(kind), dtype=np.int32),
    }
    return pa.table(columns, schema=SCANNED)


def _views(random: np.random.Generator, scan: pa.Table, kind: np.ndarray) -> pa.Table:
    parts = []
    for number, size in enumerate(SIZES):
        members = np.flatnonzero(kind == number)
        shapes = list(place_views(LAYOUT, bytes(16), *size))
        sources = scan.take(pa.array(np.repeat(members, len(shapes))))
        columns = {name: sources[name] for name in ("concept", "path", "source_id")}
        geometry = pa.Table.from_pylist([_geometry(shape) for shape in shapes])
        tiled = geometry.take(pa.array(np.tile(np.arange(len(shapes)), len(members))))
        columns |= {name: tiled[name] for name in geometry.column_names}
        columns |= {"original_width": sources["width"], "original_height": sources["height"]}
        parts.append(pa.table(columns))
    views = pa.concat_tables(parts)
    std = random.beta(2, 6, views.num_rows).astype(np.float32)
    blank = (std < 0.03) & (np.asarray(views["scale"]) > 0)
    reasons = [f"blank: luma std {s:.4f} < blank_std_threshold 0.03" if b else None
               for s, b in zip(std, blank, strict=True)]  # fmt: skip
    measured = {
        "key": _keys(random, views.num_rows),
        "luma_std": std,
        "edge_share": random.beta(1, 9, views.num_rows).astype(np.float32),
        "augmentation": pa.nulls(views.num_rows, pa.string()),
        "variation": np.zeros(views.num_rows, dtype=np.int16),
        "phase": pa.nulls(views.num_rows, pa.int16()),
        "num_phases": np.ones(views.num_rows, dtype=np.int16),
        "dropped_reason": pa.array(reasons, pa.string()),
    }
    for name, values in measured.items():
        views = views.append_column(
            name, pa.array(values) if isinstance(values, np.ndarray) else values
        )
    return views.select([*VIEWS.names, "source_id"]).cast(VIEWS.append(SCANNED.field("source_id")))


def _geometry(placed: Placed) -> dict[str, object]:
    view = placed.view
    return {
        "kind": view.kind, "scale": view.scale,
        **dict(zip(("left", "top", "width", "height"), view.rect, strict=True)),
        "resized_width": view.resized[0], "resized_height": view.resized[1],
        "bucket_width": view.target[0], "bucket_height": view.target[1],
        "resolution_index": placed.resolution_index,
    }  # fmt: skip


def _rows(views: pa.Table, scan: pa.Table, prompts: list[list[str]]) -> pa.Table:
    kept = views.filter(pc.is_null(views["dropped_reason"]))
    at = np.asarray(pc.index_in(kept["path"], scan["path"].combine_chunks()))
    given = {name: kept[name] for name in kept.column_names if name in DATASET.names}
    texts = pa.array(prompts, pa.list_(pa.string()))
    full = pc.equal(kept["kind"], "full")
    given |= {
        **dict.fromkeys(("row_id", "sample_id", "view_id"), kept["key"]),
        "prompts": texts.take(pa.array(at)),
        "context": pc.list_element(texts, 0).take(pa.array(at)),
        "prompt_origin": pc.if_else(full, "sidecar", "inherited"),
        "split": pa.array(["train"] * kept.num_rows),
    }
    numbers = {"loss_weight": 1.0, "repeats": 1.0, "tiles_per_epoch": 0}
    given |= {name: pa.array([value] * kept.num_rows) for name, value in numbers.items()}
    columns = [given.get(field.name, pa.nulls(kept.num_rows, field.type)) for field in DATASET]
    return pa.table(
        [
            (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).cast(
                field.type
            )
            for column, field in zip(columns, DATASET, strict=True)
        ],
        schema=DATASET,
    )


def _previous(random: np.random.Generator, rows: pa.Table, count: int, changed: float) -> pa.Table:
    names = pc.unique(rows["path"]).take(
        pa.array(random.permutation(count)[: int(count * changed * 2)])
    )
    new, reworded = names[: len(names) // 2], names[len(names) // 2 :]
    old = rows.filter(pc.invert(pc.is_in(rows["path"], new)))
    other = pc.is_in(old["path"], reworded).combine_chunks()
    prompts = pa.array([["an older caption"]] * old.num_rows, old["prompts"].type)
    merged = pc.if_else(other, prompts, old["prompts"].combine_chunks())
    return old.set_column(DATASET.get_field_index("prompts"), "prompts", merged)


def _prompts(random: np.random.Generator, count: int) -> list[list[str]]:
    words = TEXT.split()
    lines = random.integers(0, len(words), (count, 16))
    return [[" ".join(words[word] for word in line)] for line in lines]


def _rejects(count: int) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"stage": "scan", "path": f"/data/photos/bad/{number}.jpg", "reason": "truncated",
             "first_seen": "2026-11-23T08:00:00Z", "attempts": 1}
            for number in range(count)
        ],
        schema=pa.schema([(name, pa.int32() if name == "attempts" else pa.string())
                          for name in REJECT_COLUMNS]),
    )  # fmt: skip


def _keys(random: np.random.Generator, count: int) -> pa.Array:
    data = random.integers(0, 256, (count, 16), np.uint8)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(data)])


@lru_cache(maxsize=1)
def _jpegs() -> list[list[bytes]]:
    """Per size, the demo's photos cut to its shape: pictures of about the size of real ones."""
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
    return [[_cut(photo, width / height) for photo in photos] for width, height in SIZES]


def _cut(photo: Image.Image, ratio: float) -> bytes:
    width = min(photo.width, round(photo.height * ratio))
    height = min(photo.height, round(photo.width / ratio))
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return shrink(np.array(photo.crop((left, top, left + width, top + height))))
