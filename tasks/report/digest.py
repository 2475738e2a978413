"""The digest of a report: its tables and a few pictures, small enough for Prefect's artifacts.

It is kept as JSON beside the page, so that a run that changes nothing shows it without reading the
version again.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow import as_array
from tasks.report.inputs import Tables
from tasks.report.reasons import summarise_reasons
from tasks.report.summary import bucket_histogram, scale_table

FORMAT = 1
MAX_ROWS = 200
"""Of a table; a last row says how many more there are."""
MAX_PHOTOS, TILES_PER_PHOTO = 8, 3
EDGE_PX, GAP_PX = 96, 4
QUALITY = 60


def report_digest(
    tables: Tables, thumbnails: Mapping[bytes, bytes], bytes_of: Mapping[bytes, int]
) -> dict[str, Any]:
    """The tables `scan`, `rejects`, `buckets` and `crops`, and the pictures of some photos.

    Args:
        tables: of the dataset version.
        thumbnails: JPEG by source_id.
        bytes_of: how large the files are, by source_id, as far as that is known.
    """
    return {
        "format": FORMAT,
        "tables": {
            "scan": [*_scan_rows(tables.scan, bytes_of)],
            "rejects": _at_most(tables.rejects.select(["stage", "path", "reason"])),
            "buckets": [*_bucket_rows(tables.rows)],
            "crops": [*_crop_rows(tables.rows, tables.views)],
        },
        "photos": [*_photos(tables, thumbnails)],
    }


def _scan_rows(scan: pa.Table, bytes_of: Mapping[bytes, int]) -> Iterator[dict[str, Any]]:
    """What was found, by concept."""
    for concept in sorted(scan["concept"].unique().to_pylist()):
        files = scan.filter(pc.equal(scan["concept"], concept))
        sides = pc.min_element_wise(files["width"], files["height"])
        low, middle, high = pc.quantile(sides, [0.0, 0.5, 1.0], interpolation="nearest").to_pylist()
        formats = pc.value_counts(as_array(files["format"])).to_pylist()
        yield {
            "concept": concept,
            "images": files.num_rows,
            "different": pc.count_distinct(files["source_id"]).as_py(),
            "bytes": sum(bytes_of.get(one, 0) for one in files["source_id"].unique().to_pylist()),
            "short_side_px": f"{low} / {middle} / {high}",
            "formats": ", ".join(
                f"{one['counts']} {one['values'] or 'unknown'}"
                for one in sorted(formats, key=lambda one: -one["counts"])
            ),
        }


def _bucket_rows(rows: pa.Table) -> Iterator[dict[str, Any]]:
    for bucket in bucket_histogram(rows)[:MAX_ROWS]:
        yield {"bucket": bucket["size"], "samples": bucket["total"], **bucket["kinds"]}


def _crop_rows(rows: pa.Table, views: pa.Table) -> Iterator[dict[str, Any]]:
    """What was cut and what became of it, by concept, kind and scale."""
    for concept in sorted(views["concept"].unique().to_pylist()):
        ours = views.filter(pc.equal(views["concept"], concept))
        trained = rows.filter(pc.equal(rows["concept"], concept))
        for line in scale_table(trained, ours):
            at = pc.and_(pc.equal(ours["kind"], line["kind"]), _near(ours["scale"], line["scale"]))
            why = as_array(pc.drop_null(ours.filter(at)["dropped_reason"])).to_pylist()
            yield {
                "concept": concept,
                "kind": line["kind"],
                "scale": round(line["scale"], 3),
                "cut": line["measured"],
                "dropped": line["dropped"],
                "photos_without": line["without"],
                "samples": line["samples"],
                "enlarged": line["enlarged"],
                "why": "; ".join(f"{n} {reason}" for reason, n in summarise_reasons(why)[:4]),
            }


def _near(scales: pa.ChunkedArray, scale: float) -> pa.ChunkedArray:
    return pc.less(pc.abs(pc.subtract(scales, scale)), 1e-6)


def _at_most(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.slice(0, MAX_ROWS).to_pylist()
    if (more := table.num_rows - len(rows)) > 0:
        rows.append(dict.fromkeys(table.column_names, "") | {"reason": f"and {more:,} more"})
    return rows


def _photos(tables: Tables, thumbnails: Mapping[bytes, bytes]) -> Iterator[dict[str, Any]]:
    """A few photos, evenly spread, each with some of its tiles, cut from its thumbnail."""
    named = tables.rows.group_by(["path", "source_id"]).aggregate([])
    photos = named.sort_by("path")
    step = max(1, photos.num_rows // MAX_PHOTOS)
    for photo in photos.to_pylist()[::step][:MAX_PHOTOS]:
        jpeg = thumbnails.get(photo["source_id"])
        if jpeg is None:
            continue
        rows = tables.rows.filter(pc.equal(tables.rows["source_id"], photo["source_id"]))
        tiles = rows.filter(pc.equal(rows["kind"], "detail")).to_pylist()
        chosen = tiles[:: max(1, len(tiles) // TILES_PER_PHOTO)][:TILES_PER_PHOTO]
        prompts = next(iter(rows["prompts"].to_pylist()), None) or [""]
        yield {
            "path": photo["path"],
            "samples": rows.num_rows,
            "prompt": prompts[0],
            "picture": _strip(jpeg, chosen),
        }


def _strip(jpeg: bytes, tiles: Sequence[Mapping[str, Any]]) -> str:
    """The photo and its tiles side by side, as an address with the pixels in it."""
    from PIL import Image

    photo = Image.open(io.BytesIO(jpeg)).convert("RGB")
    pictures = [photo.copy(), *(photo.crop(_box(tile, photo.size)) for tile in tiles)]
    for picture in pictures:
        picture.thumbnail((EDGE_PX, EDGE_PX))
    width = sum(picture.width for picture in pictures) + GAP_PX * (len(pictures) - 1)
    strip = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + GAP_PX
    out = io.BytesIO()
    strip.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _box(tile: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where a tile is in a picture of the whole photo."""
    wide, high = size[0] / tile["resized_width"], size[1] / tile["resized_height"]
    left, top = round(tile["left"] * wide), round(tile["top"] * high)
    right = round((tile["left"] + tile["width"]) * wide)
    bottom = round((tile["top"] + tile["height"]) * high)
    return left, top, max(right, left + 1), max(bottom, top + 1)
