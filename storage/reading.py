"""Read items by their stored location, fast: no header is parsed, nothing is mapped.

What is in the page cache is read in the calling thread (`RWF_NOWAIT`: handing 128 KiB to another
thread costs as much as copying them); what is not goes to a thread pool, so that a disk sees many
requests at once. Each item's checksum is compared when this reader meets it first.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash

from storage.errors import CorruptError, NotFoundError
from storage.layouts import Layout, parse_layout, split_items
from storage.local_files import read_exactly
from storage.naming import shard_path
from storage.shard_cache import ShardCache, default_folder
from storage.store import Store

_OPEN_SHARDS = 256
_CACHE_BYTES = 16 << 30
_NOWAIT = getattr(os, "RWF_NOWAIT", None)


@dataclass(frozen=True, slots=True)
class ItemRef:
    """Where an item lies, as a dataset version or an index says it."""

    stage_path: str
    shard: str
    offset: int
    nbytes: int
    layout: str
    xxh3: int


class _Handle:
    """An open shard; closed when nobody uses it any more, evicted or not."""

    __slots__ = ("checked", "fd", "path")
    _close = staticmethod(os.close)  # module globals may be gone when the interpreter ends

    def __init__(self, fd: int, path: str, checked: set[int]) -> None:
        self.fd = fd
        self.path = path
        self.checked = checked

    def __del__(self) -> None:
        self._close(self.fd)


class ItemReader:
    """Reads items of one store. Threads may share it; a process makes its own."""

    def __init__(
        self,
        store: Store,
        *,
        cache_dir: Path | None = None,
        cache_bytes: int = _CACHE_BYTES,
        threads: int = 8,
        verify: bool = True,
    ) -> None:
        self._store = store
        self._verify = verify
        self._lock = threading.Lock()
        self._handles: OrderedDict[tuple[str, str], _Handle] = OrderedDict()
        self._checked: dict[tuple[str, str], set[int]] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tilewright-read")
        self._cache: ShardCache | None = None
        if not store.is_local:
            self._cache = ShardCache(store, cache_dir or default_folder(), cache_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and close the shards."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._handles.clear()

    def read(
        self,
        stage_path: str,
        shard: str,
        offset: int,
        nbytes: int,
        out: memoryview | None = None,
    ) -> memoryview:
        """Read a range of a shard, into `out` if given; compares no checksum.

        Raises:
            NotFoundError: the shard is gone.
            CorruptError: it ends before.
        """
        target = memoryview(bytearray(nbytes)) if out is None else out[:nbytes]
        handle = self._handle((stage_path, shard))
        read_exactly(handle.fd, offset, target, self._store.uri(handle.path))
        return target

    def read_many(self, items: Sequence[ItemRef]) -> list[dict[str, Any]]:
        """Read items: one dict of torch tensors by field each, in the order asked for.

        Items of one layout share one buffer, which lives as long as any of their tensors.

        Raises:
            NotFoundError: a shard is gone.
            CorruptError: an item does not match its checksum or its layout.
        """
        places: dict[str, list[int]] = {}
        for place, ref in enumerate(items):
            places.setdefault(ref.layout, []).append(place)
        found: list[dict[str, Any]] = [{} for _ in items]
        for text, members in places.items():
            layout = parse_layout(text)
            buffer = self._fill([items[place] for place in members], layout)
            for name, tensors in split_items(buffer, layout).items():
                for place, tensor in zip(members, tensors.unbind(0), strict=True):
                    found[place][name] = tensor
        return found

    def read_stacked(self, items: Sequence[ItemRef]) -> dict[str, Any]:
        """Read items of one layout as one tensor (items, ...) per field, without copying.

        Raises:
            ValueError: no items, or items of different layouts.
        """
        layouts = {ref.layout for ref in items}
        if len(layouts) != 1:
            raise ValueError(f"only items of one layout can be stacked, got {len(layouts)} layouts")
        layout = parse_layout(layouts.pop())
        return split_items(self._fill(items, layout), layout)

    def _fill(self, items: Sequence[ItemRef], layout: Layout) -> np.ndarray:
        """Read items into rows of a new buffer (items, layout.stride) of bytes."""
        buffer = np.empty((len(items), layout.stride), np.uint8)
        rows, nbytes, stride = buffer.reshape(-1).data, layout.nbytes, layout.stride
        waiting = []
        for row, ref in enumerate(items):
            if ref.nbytes != nbytes:
                raise CorruptError(f"{self._name(ref)}: its layout has {nbytes} bytes")
            out = rows[row * stride : row * stride + nbytes]
            if not self._read_cached(ref, out):
                waiting.append((ref, out))
        if len(waiting) == 1:
            self._read_waiting(waiting[0])
        elif waiting:
            list(self._pool.map(self._read_waiting, waiting))
        return buffer

    def _read_cached(self, ref: ItemRef, out: memoryview) -> bool:
        """Read an item if that needs no waiting."""
        handle = self._handles.get((ref.stage_path, ref.shard))
        if handle is None or _NOWAIT is None:
            return False
        try:
            if os.preadv(handle.fd, (out,), ref.offset, _NOWAIT) != ref.nbytes:
                return False
        except OSError:
            return False  # not in the page cache, or a file system without the flag
        if self._verify and ref.offset not in handle.checked:
            self._check(ref, out, handle)
        return True

    def _read_waiting(self, job: tuple[ItemRef, memoryview]) -> None:
        ref, out = job
        handle = self._handle((ref.stage_path, ref.shard))
        read_exactly(handle.fd, ref.offset, out, self._store.uri(handle.path))
        if self._verify and ref.offset not in handle.checked:
            self._check(ref, out, handle)

    def _check(self, ref: ItemRef, out: memoryview, handle: _Handle) -> None:
        if xxhash.xxh3_64_intdigest(out) != ref.xxh3 and not self._repaired(ref, out, handle):
            raise CorruptError(
                f"{self._name(ref)}: the bytes do not match their checksum; "
                "check the disk, then prepare again with deep = true"
            )
        handle.checked.add(ref.offset)

    def _repaired(self, ref: ItemRef, out: memoryview, handle: _Handle) -> bool:
        """Fetch a remote shard again: the local copy may be what is damaged."""
        if self._cache is None:
            return False
        self._cache.discard(handle.path)
        with self._lock:
            self._handles.pop((ref.stage_path, ref.shard), None)
        fresh = self._handle((ref.stage_path, ref.shard))
        read_exactly(fresh.fd, ref.offset, out, self._store.uri(fresh.path))
        return bool(xxhash.xxh3_64_intdigest(out) == ref.xxh3)

    def _handle(self, name: tuple[str, str]) -> _Handle:
        with self._lock:
            handle = self._handles.get(name)
            if handle is not None:
                self._handles.move_to_end(name)
                return handle
        path = shard_path(*name)
        fd = self._open(path)
        with self._lock:
            handle = _Handle(fd, path, self._checked.setdefault(name, set()))
            self._handles[name] = handle
            while len(self._handles) > _OPEN_SHARDS:
                self._handles.popitem(last=False)
            return handle

    def _open(self, path: str) -> int:
        if self._cache is not None:
            return self._cache.open(path)
        local = self._store.local_path(path)
        try:
            fd = os.open(str(local), os.O_RDONLY)
        except FileNotFoundError as error:
            raise NotFoundError(f"shard {self._store.uri(path)} is gone") from error
        if hasattr(os, "posix_fadvise"):
            # Order is random: read-ahead would fetch megabytes for each item.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return fd

    def _name(self, ref: ItemRef) -> str:
        path = shard_path(ref.stage_path, ref.shard)
        return f"{self._store.uri(path)}, {ref.nbytes} bytes at {ref.offset}"
