"""Planning a run in which almost nothing changed, over a million items.

    python -m benchmarks.planning [--items 1000000]

The index lies in segments of 4096 items, as an encoder leaves them. Exit code 1: a bound was
missed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.index import index_path, missing, read_index, shard_path, stage_path
from storage.naming import new_name
from storage.records import INDEX, K
from storage.segments import write_segment
from storage.store import Store, open_store

SECONDS = 2.0
SEGMENT = 4096
CHANGED = 1000
STAGE = ("latents", "benchmark")


def main() -> int:
    """Measure, print one line per figure, and tell whether the bound holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    count = parser.parse_args().items
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        keys = np.random.default_rng(0).integers(0, 256, (count, 16), np.uint8)
        write_index(store, keys)
        wanted = keys.copy()
        wanted[:: max(1, count // CHANGED), 0] ^= 255
        start = time.perf_counter()
        index = read_index(store, *STAGE, columns=["key"])
        read = time.perf_counter()
        left = missing(pa.table({"key": key_column(wanted)}), index)
        end = time.perf_counter()
    print(f"read the index: {len(index)} items, {read - start:.2f} s")
    print(f"anti-join: {len(left)} missing, {end - read:.2f} s")
    good = end - start < SECONDS
    print(f"plan: {end - start:.2f} s (bound {SECONDS} s) {'ok' if good else 'MISSED'}")
    return 0 if good else 1


def write_index(store: Store, keys: np.ndarray) -> None:
    """Write index segments, and shards that are holes of the recorded size."""
    base = stage_path(*STAGE)
    for start in range(0, len(keys), SEGMENT):
        part, shard = keys[start : start + SEGMENT], new_name()
        numbers = np.arange(len(part))
        table = pa.table(
            {
                "key": key_column(part),
                "offset": numbers * 131072,
                "nbytes": np.full(len(part), 131072),
                "layout": pa.array(["[]"] * len(part)).dictionary_encode(),
                "xxh3": numbers.astype(np.uint64),
            },
            schema=INDEX,
        )
        nbytes = len(part) * 131072
        path = Path(str(store.local_path(shard_path(base, shard))))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(nbytes)
        write_segment(store, index_path(base, shard), table, {"shard_bytes": nbytes})


def key_column(keys: np.ndarray) -> pa.Array:
    """View (n, 16) bytes as a column of keys."""
    return pa.FixedSizeBinaryArray.from_buffers(
        K, len(keys), [None, pa.py_buffer(np.ascontiguousarray(keys))]
    )


if __name__ == "__main__":
    sys.exit(main())
