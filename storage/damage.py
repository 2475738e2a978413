"""Read committed items again and compare their checksums."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import xxhash

from storage.errors import NotFoundError
from storage.naming import shard_path
from storage.store import Store

_READERS = 4


def sound_items(store: Store, base: str, index: pa.Table) -> pa.Array:
    """Tell for each item of an index whether its bytes are those that were written.

    Args:
        store: the store.
        base: the stage's folder.
        index: `key, offset, nbytes, xxh3, shard`; a table without `xxh3` has nothing to check.

    Returns:
        One boolean per row.
    """
    sound = np.ones(len(index), bool)
    if "xxh3" not in index.column_names or not len(index):
        return pa.array(sound)
    shards = index["shard"].cast(pa.string()).to_numpy()
    order = np.argsort(shards, kind="stable")
    groups = np.split(order, np.flatnonzero(shards[order][1:] != shards[order][:-1]) + 1)

    def check(rows: np.ndarray) -> None:
        path = shard_path(base, shards[rows[0]])
        sound[rows] = _sound(store, path, index.take(pa.array(rows)))

    with ThreadPoolExecutor(_READERS) as pool:
        list(pool.map(check, groups))
    return pa.array(sound)


def _sound(store: Store, path: str, items: pa.Table) -> np.ndarray:
    """Tell which items of one shard match their checksum."""
    local = store.local_path(path)
    if local is not None:
        return _sound_file(local, items)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "shard"
        try:
            store.fetch_file(path, copy)
        except NotFoundError:
            return np.zeros(len(items), bool)
        return _sound_file(copy, items)


def _sound_file(path: Path, items: pa.Table) -> np.ndarray:
    columns = [items[name].to_numpy().tolist() for name in ("offset", "nbytes", "xxh3")]
    sound = np.zeros(len(items), bool)
    try:
        with path.open("rb") as stream:
            for row, (offset, nbytes, xxh3) in enumerate(zip(*columns, strict=True)):
                stream.seek(offset)
                sound[row] = xxhash.xxh3_64_intdigest(stream.read(nbytes)) == xxh3
    except FileNotFoundError:
        sound[:] = False
    return sound
