"""Commit the items of a stage: shards of tensors, or plain records.

Work is durable from `commit` on, which writers call by themselves every `flush_seconds`, at
`flush_bytes` or at `flush_items`; a shard is published first, its index segment second, and only
the segment makes its items exist. What was not committed when an exception leaves the `with`
block is dropped, but for an interrupt: items that were added are whole.
"""

import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from storage.digest import hexkey
from storage.naming import index_path, new_name, now_iso, shard_path, stage_path
from storage.records import INDEX
from storage.segments import write_segment
from storage.store import Store
from storage.tensor_file import Item, TensorFile

FLUSH_SECONDS = 60.0
FLUSH_BYTES = 256 << 20
FLUSH_ITEMS = 4096


@dataclass(frozen=True)
class _Pending:
    """One item that is written but not committed."""

    key: bytes
    item: Item
    columns: dict[str, Any]


class ShardWriter:
    """Adds tensor items to a stage; threads may share it."""

    def __init__(
        self,
        store: Store,
        stage: str,
        stage_id: str,
        *,
        flush_seconds: float = FLUSH_SECONDS,
        flush_bytes: int = FLUSH_BYTES,
        flush_items: int = FLUSH_ITEMS,
    ) -> None:
        self.num_committed = 0
        self._store = store
        self._stage, self._stage_id = stage, stage_id
        self._base = stage_path(stage, stage_id)
        self._limits = (flush_seconds, flush_bytes, flush_items)
        self._lock = threading.RLock()
        self._file: TensorFile | None = None
        self._pending: dict[bytes, _Pending] = {}
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None or kind is KeyboardInterrupt:
                self.commit()
        finally:
            self._drop()

    def add(self, key: bytes, tensors: Mapping[str, Any], **columns: Any) -> None:
        """Add an item: numpy arrays or torch tensors by field, plus index columns of its own.

        A key that waits for its commit already is left as it is: equal keys are equal items.
        """
        name = hexkey(key)
        with self._lock:
            if key in self._pending:
                return
            if self._file is None:
                self._file = TensorFile(self._store.scratch_folder())
                self._since = time.monotonic()
            item = self._file.append(name, tensors)
            self._pending[key] = _Pending(key, item, columns)
            seconds, nbytes, items = self._limits
            if (
                len(self._pending) >= items
                or self._file.nbytes >= nbytes
                or time.monotonic() - self._since >= seconds
            ):
                self.commit()

    def commit(self) -> int:
        """Make all added items durable and visible; returns how many there were."""
        with self._lock:
            if self._file is None:
                return 0
            pending = list(self._pending.values())
            try:
                self._publish(self._file, pending)
            finally:
                self._drop()
            self.num_committed += len(pending)
            return len(pending)

    def _publish(self, file: TensorFile, pending: list[_Pending]) -> None:
        shard = new_name()
        facts = _facts(self._stage, self._stage_id, len(pending))
        temp = self._store.scratch_folder() / f"{shard}.safetensors"
        try:
            start = file.finish(temp, {name: str(value) for name, value in facts.items()})
            nbytes = temp.stat().st_size
            self._store.publish_file(temp, shard_path(self._base, shard))
        finally:
            temp.unlink(missing_ok=True)
        facts |= {"shard": shard, "shard_bytes": nbytes, "header_bytes": start}
        write_segment(
            self._store, index_path(self._base, shard), _index_table(pending, start), facts
        )

    def _drop(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None
            self._pending = {}


class RecordWriter:
    """Adds rows to a stage without tensors; threads may share it."""

    def __init__(
        self,
        store: Store,
        stage: str,
        stage_id: str,
        schema: pa.Schema,
        *,
        flush_seconds: float = FLUSH_SECONDS,
        flush_items: int = 16 * FLUSH_ITEMS,
    ) -> None:
        self.num_committed = 0
        self._store = store
        self._stage, self._stage_id = stage, stage_id
        self._base = stage_path(stage, stage_id)
        self._schema = schema
        self._limits = (flush_seconds, flush_items)
        self._lock = threading.RLock()
        self._rows: list[dict[str, Any]] = []
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or kind is KeyboardInterrupt:
            self.commit()
        self._rows = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; columns it does not name are null.

        Raises:
            ValueError: a column that the schema lacks.
        """
        unknown = sorted(row.keys() - set(self._schema.names))
        if unknown:
            raise ValueError(f"stage {self._stage} has no columns {unknown}: {self._schema.names}")
        with self._lock:
            if not self._rows:
                self._since = time.monotonic()
            self._rows.append(dict(row))
            self.commit_due()

    def commit_due(self) -> None:
        """Commit if it is time: for who adds rows minutes apart."""
        seconds, items = self._limits
        with self._lock:
            waited = time.monotonic() - self._since
            if self._rows and (len(self._rows) >= items or waited >= seconds):
                self.commit()

    def commit(self) -> int:
        """Make all added rows durable and visible; returns how many there were."""
        with self._lock:
            rows, self._rows = self._rows, []
            if rows:
                table = pa.Table.from_pylist(rows, schema=self._schema)
                facts = _facts(self._stage, self._stage_id, len(rows))
                write_segment(self._store, index_path(self._base, new_name()), table, facts)
            self.num_committed += len(rows)
            return len(rows)


def _facts(stage: str, stage_id: str, num_items: int) -> dict[str, Any]:
    return {
        "format": 1,
        "stage": stage,
        "stage_id": stage_id,
        "items": num_items,
        "created_at": now_iso(),
        "writer": f"{socket.gethostname()}:{os.getpid()}",
    }


def _index_table(pending: list[_Pending], start: int) -> pa.Table:
    items = [entry.item for entry in pending]
    table = pa.table(
        {
            "key": pa.array([entry.key for entry in pending], INDEX.field("key").type),
            "offset": pa.array([start + item.offset for item in items], pa.int64()),
            "nbytes": pa.array([item.nbytes for item in items], pa.int64()),
            "layout": pa.array([item.layout for item in items]).dictionary_encode(),
            "xxh3": pa.array(np.array([item.xxh3 for item in items], np.uint64)),
        },
        schema=INDEX,
    )
    for name in sorted({name for entry in pending for name in entry.columns}):
        values = [entry.columns.get(name) for entry in pending]
        table = table.append_column(name, pa.array(values))
    return table
