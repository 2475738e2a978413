"""Which items of a stage exist: the union of its index segments, first commit first.

A tensor segment counts only while its shard is there with its recorded size, which one listing
of the stage tells. Whatever is damaged counts as absent, so the next run makes it again.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from storage.damage import damaged_items
from storage.naming import index_path, new_name, now_iso, shard_path, stage_path
from storage.records import DAMAGE, INDEX, STAGE_SCHEMAS
from storage.segments import Segment, anti_join, first_rows, read_segments, write_segment
from storage.store import Store

__all__ = [
    "index_path",
    "mark_damaged",
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
        bad = damaged_items(store, stage_path(stage, stage_id), table)
        table = _without(table, bad)
    table = first_rows(table, ["key"])
    if columns is None:
        return table
    if unknown := sorted(set(columns) - set(table.column_names)):
        raise ValueError(f"stage {stage} has no columns {unknown}: {table.column_names}")
    return table.select(list(columns))


def mark_damaged(store: Store, stage: str, stage_id: str) -> pa.Table:
    """Read every item again and note the damaged ones, which no index shows from then on.

    Without the note the damaged first commit of a key would go on hiding its repaired second.

    Returns:
        The damaged items: `key` and `shard`.
    """
    base = stage_path(stage, stage_id)
    bad = damaged_items(store, base, _live_items(store, stage, stage_id, None))
    if len(bad):
        path = f"{base}/damaged/{new_name()}.parquet"
        write_segment(store, path, bad, {"created_at": now_iso()})
    return bad


def missing(wanted: pa.Table, index: pa.Table) -> pa.Table:
    """Keep the rows of `wanted` whose `key` is not in `index`, in order."""
    return anti_join(wanted, index, ["key"])


def _live_items(store: Store, stage: str, stage_id: str, columns: Sequence[str] | None) -> pa.Table:
    base = stage_path(stage, stage_id)
    listing = store.list(base)
    needed = None if columns is None else sorted({"key", *columns} - {"shard"})
    segments = read_segments(store, _below(listing, f"{base}/index/"), needed)
    live = [segment for segment in segments if _shard_is_there(segment, base, listing)]
    table = _joined(live, STAGE_SCHEMAS.get(stage, INDEX))
    notes = read_segments(store, _below(listing, f"{base}/damaged/"))
    if not notes:
        return table
    return _without(table, pa.concat_tables([note.table for note in notes]))


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


def _without(table: pa.Table, bad: pa.Table) -> pa.Table:
    if not len(bad):
        return table
    plain = table.select(["key"]).append_column("shard", table["shard"].cast(pa.string()))
    kept = anti_join(plain.append_column("row", pa.array(np.arange(len(table)))), bad, DAMAGE.names)
    return table.take(kept["row"])
