"""Thumbnails in the store: records by source_id, written where a source is decoded anyway.

They are no stage: nothing waits for them, and no dataset version depends on them.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_json, hexkey
from storage.index import read_index, write_stage_json
from storage.records import THUMBNAILS
from storage.shards import RecordWriter
from storage.store import Store
from tasks.imaging.header import FORMAT_ERRORS
from tasks.imaging.thumbnail import EDGE, QUALITY, shrink

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

FOLDER = "thumbnails"
_FACTS = {"stage": FOLDER, "version": 1, "edge": EDGE, "quality": QUALITY}
STAGE_ID = hexkey(digest_json("stage", _FACTS))


def thumbnail_writer(store: Store, flush_seconds: float) -> RecordWriter:
    """Takes rows of source_id (`key`) and `jpeg`."""
    write_stage_json(store, FOLDER, STAGE_ID, _FACTS)
    _known(store)  # before there are threads, which would all read it
    return RecordWriter(store, FOLDER, STAGE_ID, THUMBNAILS, flush_seconds=flush_seconds)


def add_thumbnail(writer: RecordWriter, store: Store, source_id: bytes, pixels: "Pixels") -> None:
    """Adds the picture of a decoded source that had none when this process first asked.

    One that cannot be made is left out: a picture for people is no reason to fail.
    """
    if source_id not in _known(store):
        try:
            jpeg = shrink(pixels)
        except FORMAT_ERRORS:
            return
        writer.add({"key": source_id, "jpeg": jpeg})


def read_thumbnails(store: Store, source_ids: pa.Array) -> dict[bytes, bytes]:
    """The JPEG of every source that has one."""
    table = read_index(store, FOLDER, STAGE_ID, ["key", "jpeg"])
    table = table.filter(pc.is_in(table["key"], source_ids))
    return dict(zip(table["key"].to_pylist(), table["jpeg"].to_pylist(), strict=True))


# Reading the keys means reading all pictures, so it is done once per open store: what is added
# meanwhile is at worst made twice, and the newer one is read.
@lru_cache(maxsize=4)
def _known(store: Store) -> frozenset[bytes]:
    keys: list[bytes] = read_index(store, FOLDER, STAGE_ID, ["key"])["key"].to_pylist()
    return frozenset(keys)
