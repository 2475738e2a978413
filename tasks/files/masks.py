"""Mask files: what counts of an image, read at the image's size."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.config.models import DataConfig
from tasks.files.reading import read_source
from tasks.imaging.header import probe
from tasks.imaging.mask import alpha_mask, file_mask
from tasks.imaging.memory import decode_budget

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

_BYTES_PER_PIXEL = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a mask comes from."""

    content_id: bytes
    """Of the mask file; or what stands for one (`tasks/masks/origins.py`)."""
    path: str | None = None
    """The mask file; None for transparency."""
    broken: str | None = None
    """Why the file cannot be read."""


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
