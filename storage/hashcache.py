"""What is known of files by path, so that unchanged ones are not read and hashed again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from storage.naming import new_name, now_iso
from storage.records import HASH_CACHE
from storage.segments import first_rows, read_segments, write_segment
from storage.store import Store

_FOLDER = "sources"


def append_hash_cache(store: Store, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add what was learnt (columns HASH_CACHE); an empty list adds nothing."""
    if rows:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=HASH_CACHE)
        facts = {"created_at": now_iso()}
        write_segment(store, f"{_FOLDER}/{new_name()}.parquet", table, facts)


def read_hash_cache(store: Store) -> pa.Table:
    """Read the newest row of each kind and path."""
    segments = read_segments(store, list(store.list(_FOLDER)))
    table = pa.concat_tables([HASH_CACHE.empty_table(), *(segment.table for segment in segments)])
    # Newest first; the later segment wins where two clocks agree.
    age = table["hashed_at_ns"].to_numpy(zero_copy_only=False)[::-1]
    order = len(table) - 1 - np.argsort(-age, kind="stable")
    return first_rows(table.take(pa.array(order, pa.int64())), ["kind", "path"])
