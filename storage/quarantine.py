"""What was rejected, why, and how often it was tried."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.naming import new_name, now_iso
from storage.records import QUARANTINE
from storage.segments import read_segments, write_segment
from storage.store import Store

_FOLDER = "quarantine"
_MERGED = {
    "first_seen": "min",
    "attempts": "sum",
    "stage_id": "last",
    "source_id": "last",
    "path": "last",
    "reason": "last",
}


def quarantine(store: Store, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note rejected items (columns QUARANTINE); an empty list notes nothing."""
    if rows:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=QUARANTINE)
        facts = {"created_at": now_iso()}
        write_segment(store, f"{_FOLDER}/{new_name()}.parquet", table, facts)


def read_quarantine(store: Store, stage: str | None = None) -> pa.Table:
    """Read what was rejected, one row per stage and key, in order of first sight.

    `first_seen` is the earliest, `attempts` the sum, everything else the newest note's.
    """
    segments = read_segments(store, list(store.list(_FOLDER)))
    table = pa.concat_tables([QUARANTINE.empty_table(), *(segment.table for segment in segments)])
    if stage is not None:
        table = table.filter(pc.equal(table["stage"], stage))
    if not len(table):
        return table
    merged = table.group_by(["stage", "key"], use_threads=False).aggregate(list(_MERGED.items()))
    names = {f"{name}_{how}": name for name, how in _MERGED.items()}
    merged = merged.rename_columns([names.get(name, name) for name in merged.column_names])
    return merged.select(QUARANTINE.names).cast(QUARANTINE).sort_by("first_seen")
