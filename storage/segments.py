"""Parquet segments: small immutable tables that are written whole and read many at a time."""

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import AlreadyExistsError, CorruptError, NotFoundError
from storage.store import Store

_LOG = logging.getLogger(__name__)
_FACTS = b"tilewright"
_READERS = 16


@dataclass(frozen=True)
class Segment:
    """A table that was read, its path, and the facts its writer put beside it."""

    path: str
    table: pa.Table
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return self.path.rsplit("/", 1)[-1].removesuffix(".parquet")


def encode_parquet(table: pa.Table, facts: Mapping[str, Any] | None = None) -> bytes:
    """Write a table as Parquet bytes (zstd, checksummed pages), with facts in its metadata."""
    sink = pa.BufferOutputStream()
    metadata = {_FACTS: json.dumps(dict(facts or {}), sort_keys=True).encode()}
    pq.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def decode_parquet(data: bytes, where: str, columns: Sequence[str] | None = None) -> Segment:
    """Read Parquet bytes.

    Raises:
        CorruptError: they are not Parquet, or a page does not match its checksum.
    """
    try:
        reader = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = reader.read(columns=None if columns is None else list(columns), use_threads=False)
        facts = json.loads((table.schema.metadata or {}).get(_FACTS, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptError(f"{where} is damaged: {error}") from error
    return Segment(where, table.replace_schema_metadata(None), facts)


def write_segment(store: Store, path: str, table: pa.Table, facts: Mapping[str, Any]) -> None:
    """Commit a segment under a name of its own.

    Raises:
        AlreadyExistsError: the name is taken by other bytes (a PUT that was sent twice is not).
    """
    data = encode_parquet(table, facts)
    if not store.put_if_absent(path, data) and store.read_bytes(path) != data:
        raise AlreadyExistsError(f"{store.uri(path)} is there already with other content")


def read_segments(
    store: Store, paths: Sequence[str], columns: Sequence[str] | None = None
) -> list[Segment]:
    """Read many segments at once, in the order asked for.

    A segment is published whole, so a damaged one is a damaged disk: it is left out with a
    warning, and what it held counts as never made. One deleted since the listing is left out too.
    """
    if not paths:
        return []
    with ThreadPoolExecutor(min(_READERS, len(paths))) as pool:
        found = list(pool.map(lambda path: _read_one(store, path, columns), paths))
    return [segment for segment in found if segment is not None]


def first_rows(table: pa.Table, by: Sequence[str]) -> pa.Table:
    """Keep the first row of each value of the `by` columns, in order."""
    numbered = _numbered(table.select(list(by)))
    kept = numbered.group_by(list(by), use_threads=False).aggregate([("#", "min")])["#_min"]
    return table if len(kept) == len(table) else table.take(_ascending(kept))


def anti_join(table: pa.Table, other: pa.Table, on: Sequence[str]) -> pa.Table:
    """Keep the rows of `table` whose `on` values are not in `other`, in order."""
    numbered = _numbered(table.select(list(on)))
    left = numbered.join(other.select(list(on)), keys=list(on), join_type="left anti")
    return table if len(left) == len(table) else table.take(_ascending(left["#"]))


def _numbered(table: pa.Table) -> pa.Table:
    # Only keys and row numbers go through joins and groupings: those refuse nested columns.
    return table.append_column("#", pa.array(np.arange(len(table))))


def _ascending(rows: pa.ChunkedArray) -> pa.ChunkedArray:
    return rows.take(pc.sort_indices(rows))


def _read_one(store: Store, path: str, columns: Sequence[str] | None) -> Segment | None:
    try:
        return decode_parquet(store.read_bytes(path), path, columns)
    except NotFoundError:
        return None
    except CorruptError as error:
        _LOG.warning("%s; left out, its items count as missing", error)
        return None
