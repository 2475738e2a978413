"""Origins: where the mask of each image comes from."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contents import file_contents
from tasks.files.listing import FileStat
from tasks.files.masks import Origin
from tasks.imaging.mask import may_be_transparent
from tasks.stage import Context

ALPHA = b"alpha"
"""Stands for the content id of a mask that is the image's own transparency."""
UNREADABLE = b"unreadable"
"""Stands for the content id of a mask file that could not be read."""


def read_origins(context: Context, scan: pa.Table) -> dict[tuple[str, str], Origin]:
    """The mask of each (concept, path); images of which all counts are left out.

    Mask files that are not known yet are hashed.
    """
    by_source = {
        source: pa.array(
            [
                c.name
                for c in context.config.concepts
                if c.enabled and c.image.mask_source == source
            ],
            pa.string(),
        )
        for source in ("file", "alpha")
    }
    beside = scan.filter(pc.is_in(scan["concept"], by_source["file"]))
    beside = beside.filter(pc.not_equal(beside["mask_path"], ""))
    files = _file_origins(context, beside)
    names = beside.select(["concept", "path", "mask_path"]).to_pydict().values()
    origins = {(concept, path): files[mask] for concept, path, mask in zip(*names, strict=True)}
    own = scan.filter(pc.is_in(scan["concept"], by_source["alpha"]))
    headers = own.select(["concept", "path", "format", "mode"]).to_pydict().values()
    for concept, path, image_format, mode in zip(*headers, strict=True):
        if may_be_transparent(image_format, mode):
            origins[concept, path] = Origin(ALPHA)
    return origins


def _file_origins(context: Context, beside: pa.Table) -> dict[str, Origin]:
    """The origin that every mask file is, by its path."""
    columns = [beside[f"mask_{name}"].to_pylist() for name in FileStat._fields]
    files = {file.path: file for file in map(FileStat, *columns)}
    found = file_contents(context, "mask", files.values())
    return {path: _file_origin(path, row) for path, row in found.items()}


def _file_origin(path: str, row: dict[str, Any]) -> Origin:
    if row["content_id"] is None:
        return Origin(UNREADABLE, path, row["error"])
    return Origin(row["content_id"], path)
