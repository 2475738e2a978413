"""Thumbnails for a report: those of the store, and those that an older Tilewright did not make."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from storage.store import Store
from tasks.arrow import as_array, first_of_each
from tasks.config.models import DataConfig
from tasks.files.reading import SourceChangedError, num_threads, read_source, thread_map
from tasks.files.sources import decoded
from tasks.imaging.header import FORMAT_ERRORS, ImageError
from tasks.imaging.thumbnail import shrink, shrink_jpeg
from tasks.thumbnails.stored import read_thumbnails, thumbnail_writer

_FLUSH_SECONDS = 60.0


def thumbnails_of(store: Store, sources: pa.Table, data: DataConfig) -> dict[bytes, bytes]:
    """The JPEG of every source by its id; missing ones are made and stored.

    Args:
        store: Where they are kept.
        sources: Columns path and source_id.
        data: How files are decoded.
    """
    wanted = pc.unique(as_array(sources["source_id"]))
    found = read_thumbnails(store, wanted)
    missing = sources.filter(
        pc.invert(pc.is_in(sources["source_id"], pa.array(list(found), wanted.type)))
    )
    missing = first_of_each(missing.select(["path", "source_id"]), "source_id")
    if missing.num_rows:
        with thumbnail_writer(store, _FLUSH_SECONDS) as writer:
            for source_id, jpeg in _make(missing, data):
                found[source_id] = jpeg
                writer.add({"key": source_id, "jpeg": jpeg})
    return found


def _make(missing: pa.Table, data: DataConfig) -> Iterator[tuple[bytes, bytes]]:
    """(source_id, JPEG) of the sources that still are as they were scanned."""
    files: list[tuple[str, bytes]] = list(
        zip(missing["path"].to_pylist(), missing["source_id"].to_pylist(), strict=True)
    )
    made = thread_map(lambda file: _thumbnail(*file, data), files, num_threads(data.threads))
    for (_, source_id), jpeg in zip(files, made, strict=True):
        if jpeg is not None:
            yield source_id, jpeg


def _thumbnail(path: str, source_id: bytes, data: DataConfig) -> bytes | None:
    try:
        small = shrink_jpeg(read_source(path, source_id), max_pixels=data.max_pixels)
        if small is not None:
            return small
        with decoded(path, source_id, data) as image:
            return shrink(image)
    except (SourceChangedError, ImageError, *FORMAT_ERRORS):
        return None
