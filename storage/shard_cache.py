"""A bounded folder of whole shards, fetched from a store that is not on this machine.

Processes may share the folder: a shard appears whole (fetched beside, then renamed), and one that
is evicted while somebody reads it stays readable for them until they close it.
"""

import os
import tempfile
import threading
import time
from pathlib import Path

from storage.errors import CorruptError
from storage.naming import new_name
from storage.store import Store

_ABANDONED_SECONDS = 3600


def default_folder() -> Path:
    """Tell where shards are kept unless the caller says so."""
    return Path(tempfile.gettempdir()) / f"tilewright-shards-{os.getuid()}"


class ShardCache:
    """Local copies of shards, the least recently used of which make room for new ones.

    The bound holds between fetches; those under way at one time come on top.
    """

    def __init__(self, store: Store, folder: Path, max_bytes: int) -> None:
        self._store = store
        self._folder = folder
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, path: str) -> int:
        """Open a shard for reading, fetched first if need be; the caller closes the descriptor.

        Raises:
            NotFoundError: the store has no such shard.
        """
        local = self._local(path)
        with self._guard:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            try:
                fd = os.open(local, os.O_RDONLY)
            except FileNotFoundError:
                return self._fetch(path, local)
            os.utime(fd)
            return fd

    def discard(self, path: str) -> None:
        """Forget a copy that turned out to be damaged."""
        self._local(path).unlink(missing_ok=True)

    def _local(self, path: str) -> Path:
        return self._folder / f"{self._store.uuid}-{path.rsplit('/', 1)[-1]}"

    def _fetch(self, path: str, local: Path) -> int:
        nbytes = self._store.size(path)
        with self._guard:
            self._make_room(nbytes)
        temp = self._folder / f"{new_name()}.part"
        try:
            self._store.fetch_file(path, temp)
            if temp.stat().st_size != nbytes:
                raise CorruptError(f"{self._store.uri(path)}: fetched {temp.stat().st_size} bytes")
            fd = os.open(temp, os.O_RDONLY)
            temp.replace(local)
        finally:
            temp.unlink(missing_ok=True)
        with self._guard:
            self._make_room(0)  # others were fetched meanwhile
        return fd

    def _make_room(self, nbytes: int) -> None:
        entries = []
        for entry in os.scandir(self._folder):
            try:
                facts = entry.stat()
            except FileNotFoundError:
                continue
            young = time.time() - facts.st_mtime < _ABANDONED_SECONDS
            if not (entry.name.endswith(".part") and young):
                entries.append((facts.st_mtime_ns, facts.st_size, entry.path))
        total = nbytes + sum(size for _, size, _ in entries)
        for _, size, oldest in sorted(entries):
            if total <= self._max_bytes:
                return
            Path(oldest).unlink(missing_ok=True)
            total -= size
