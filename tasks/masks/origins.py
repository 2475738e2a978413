"""Origins: where the mask of each image comes from, and what it says at the image's size."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.config.models import DataConfig
from tasks.contents import file_contents
from tasks.files.listing import FileStat
from tasks.files.reading import read_source
from tasks.imaging.header import probe
from tasks.imaging.mask import alpha_mask, file_mask, may_be_transparent
from tasks.imaging.memory import decode_budget
from tasks.stage import Context

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

ALPHA = b"alpha"
"""Stands for the content id of a mask that is the image's own transparency."""
UNREADABLE = b"unreadable"
"""Stands for the content id of a mask file that could not be read."""
_BYTES_PER_PIXEL = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a mask comes from."""

    content_id: bytes
    """Of the mask file; or ALPHA or UNREADABLE."""
    path: str | None = None
    """The mask file; None for transparency."""
    broken: str | None = None
    """Why the file cannot be read."""


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


@contextmanager
def read_mask(
    path: str, source_id: bytes, size: tuple[int, int], origin: Origin, data: DataConfig
) -> Iterator["Pixels"]:
    """The mask of a source at its size, (height, width) uint8, within `data.decode_memory_mib`.

    Raises:
        SourceChangedError: the file is not what was hashed; the next run sees it anew.
        ImageError: it cannot be used.
    """
    limit = data.max_pixels
    content = read_source(origin.path or path, origin.content_id if origin.path else source_id)
    header = probe(content, max_pixels=limit)
    num_pixels = max(header.width * header.height, size[0] * size[1])
    with decode_budget(data.decode_memory_mib).hold(_BYTES_PER_PIXEL * num_pixels):
        if origin.path is None:
            yield alpha_mask(content, max_pixels=limit)
        else:
            yield file_mask(content, size, max_pixels=limit)


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
