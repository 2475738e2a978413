"""Which items of a stage exist: the union of its index segments, where the newest commit wins.

A tensor segment counts only while its shard is there with its recorded size, which one listing
of the stage tells. Whatever is damaged counts as absent, so the next run makes it again, and since
the newest commit of a key wins, the repaired or refreshed item is the one that readers see.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from storage.damage import sound_items
from storage.naming import index_path, shard_path, stage_path
from storage.records import INDEX, STAGE_SCHEMAS
from storage.segments import Segment, anti_join, first_rows, read_segments
from storage.store import Store

__all__ = [
    "index_path",
    "missing",
    "read_index",
    "shard_path",
    "stage_path",
    "write_stage_json",
]


def write_stage_json(store: Store, stage: str, stage_id: str, facts: Mapping[str, Any]) -> None:
    """Note, for people, everything that made `stage_id`; the first note stays."""
    text = json.dumps(dict(facts), indent=2, sort_keys=True, ensure_ascii=False)
    store.put_if_absent(f"{stage_path(stage, stage_id)}/stage.json", text.encode())


def read_index(
    store: Store,
    stage: str,
    stage_id: str,
    columns: Sequence[str] | None = None,
    *,
    deep: bool = False,
) -> pa.Table:
    """Read the committed items of a stage, one row per key.

    Args:
        store: the store.
        stage: the stage's name, such as `latents`.
        stage_id: the digest of everything that changes all its items.
        columns: which to return; all of the segments' and `shard` when None.
        deep: read every item again and leave out those whose checksum does not match.

    Returns:
        The segments' columns plus `shard` (dictionary of segment names); where there is no
        segment, an empty table with the stage's columns.

    Raises:
        ValueError: a column that no segment has.
    """
    wanted = None if columns is None or deep else [*columns]
    table = _live_items(store, stage, stage_id, wanted)
    if deep:
        table = table.filter(sound_items(store, stage_path(stage, stage_id), table))
    table = first_rows(table, ["key"])
    if columns is None:
        return table
    if unknown := sorted(set(columns) - set(table.column_names)):
        raise ValueError(f"stage {stage} has no columns {unknown}: {table.column_names}")
    return table.select(list(columns))


def missing(wanted: pa.Table, index: pa.Table) -> pa.Table:
    """Keep the rows of `wanted` whose `key` is not in `index`, in order."""
    return anti_join(wanted, index, ["key"])


def _live_items(store: Store, stage: str, stage_id: str, columns: Sequence[str] | None) -> pa.Table:
    base = stage_path(stage, stage_id)
    listing = store.list(base)
    needed = None if columns is None else sorted({"key", *columns} - {"shard"})
    segments = read_segments(store, sorted(_below(listing, f"{base}/index/")), needed)
    live = [segment for segment in segments if _shard_is_there(segment, base, listing)]
    # Names of segments sort by time: the newest comes first, and the first row of a key is kept.
    return _joined(live[::-1], STAGE_SCHEMAS.get(stage, INDEX))


def _below(listing: Mapping[str, int], folder: str) -> list[str]:
    return [path for path in listing if path.startswith(folder)]


def _shard_is_there(segment: Segment, base: str, listing: Mapping[str, int]) -> bool:
    nbytes = segment.facts.get("shard_bytes")
    return nbytes is None or listing.get(shard_path(base, segment.name)) == nbytes


def _joined(segments: Sequence[Segment], empty: pa.Schema) -> pa.Table:
    if not segments:
        table, names = empty.empty_table(), []
    else:
        tables = [segment.table for segment in segments]
        table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
        names = [segment.name for segment in segments]
    counts = [len(segment.table) for segment in segments]
    rows = np.repeat(np.arange(len(segments), dtype=np.int32), counts)
    shard = pa.DictionaryArray.from_arrays(pa.array(rows), pa.array(names, pa.string()))
    return table.append_column("shard", shard).combine_chunks()
