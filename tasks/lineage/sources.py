"""Sources: the photos behind a model, and what of one of them went in."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_file
from storage.records import K
from tasks.arrow import as_array

OWN_TEXT = ("generated", "edited")
"""Origins of prompts that a view has of its own: a caption, or a person's text for it."""
_ID = re.compile(r"[0-9a-f]{8,32}")


def list_sources(rows: pa.Table) -> list[dict[str, Any]]:
    """Every photo with its number of rows, of tiles and of rows with a caption; most rows first."""
    is_tile = pc.not_equal(as_array(rows["kind"]), "full")
    has_text = pc.is_in(as_array(rows["prompt_origin"]), pa.array(OWN_TEXT))
    columns = [as_array(rows["source_id"]), as_array(rows["path"])]
    columns += [pc.cast(is_tile, pa.int64()), pc.cast(has_text, pa.int64())]
    table = pa.table(columns, names=["source_id", "path", "tiles", "captions"])
    counts = [([], "count_all"), ("tiles", "sum"), ("captions", "sum")]
    groups = table.group_by(["source_id", "path"]).aggregate(counts)
    ordered = groups.sort_by([("count_all", "descending"), ("path", "ascending")])
    return [
        {
            "source_id": one["source_id"].hex(),
            "path": one["path"],
            "rows": one["count_all"],
            "tiles": one["tiles_sum"],
            "captions": one["captions_sum"],
        }
        for one in ordered.to_pylist()
    ]


def find_source(rows: pa.Table, wanted: str) -> pa.Table:
    """The rows of one photo, by its id (or how that begins), its path, or its bytes.

    A file that was renamed or copied is found by its bytes.

    Raises:
        ValueError: more than one photo is meant.
    """
    ids = as_array(rows["source_id"])
    found = rows.filter(pc.is_in(rows["path"], pa.array([wanted, str(Path(wanted).absolute())])))
    if not found.num_rows and _ID.fullmatch(wanted):
        begins = [one for one in pc.unique(ids).to_pylist() if one.hex().startswith(wanted)]
        found = rows.filter(pc.is_in(ids, pa.array(begins, K)))
    if not found.num_rows and Path(wanted).is_file():
        found = rows.filter(pc.equal(ids, pa.scalar(_digest(Path(wanted)), K)))
    meant = pc.unique(found["source_id"])
    if len(meant) > 1:
        raise ValueError(
            f"means {len(meant)} photos: {', '.join(map(bytes.hex, meant.to_pylist()))}"
        )
    ordered = [(name, "ascending") for name in ("scale", "concept", "top", "left", "variation")]
    return rows.filter(pc.is_in(ids, as_array(meant))).sort_by(ordered)


def describe_row(row: dict[str, Any]) -> dict[str, Any]:
    """One row as JSON: the view, its prompts, and who made them."""
    keys = ("row_id", "sample_id", "latent_key")
    return {
        **{key: None if row[key] is None else row[key].hex() for key in keys},
        **{key: row[key] for key in ("concept", "split", "kind")},
        "scale": round(row["scale"], 6),
        "rect": [row[edge] for edge in ("left", "top", "width", "height")],
        "resized": [row["resized_width"], row["resized_height"]],
        "epoch": row["phase"],
        **{key: row[key] for key in ("variation", "prompts", "prompt_origin")},
        **{key: row[key] for key in ("caption_model", "caption_model_digest")},
        "texts": [
            {**text, "key": None if text["key"] is None else text["key"].hex()}
            for text in row["texts"]
        ],
    }


def file_state(path: str, source_id: bytes) -> str:
    """Whether the file of a photo is what it was: unchanged, changed since, or not there."""
    if "://" in path and not path.startswith("file://"):
        return "not on this machine"
    file = Path(path.removeprefix("file://"))
    if not file.is_file():
        return "no longer there"
    return "unchanged" if _digest(file) == source_id else "changed since"


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return digest_file(file)
