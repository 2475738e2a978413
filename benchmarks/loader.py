"""Reading items: ItemReader against a bare preadv loop over the same items, in the same run.

    python -m benchmarks.loader [--items 4096] [--batch 16]

Items are 128 KiB latents (4 x 128 x 128, bfloat16), read warm in random order into batches. The
bare loop knows all offsets and fills one reused buffer. Batches (`read_stacked`) are what the
bound is for: like the bare loop they end as one tensor. `read_many` makes a tensor per item.
Exit code 1: a bound was missed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from storage.index import read_index, shard_path, stage_path
from storage.reading import ItemReader, ItemRef
from storage.shards import ShardWriter
from storage.store import Store, open_store

ITEMS_PER_SECOND = 20_000
RATIO = 0.80
ROUNDS = 9
STAGE = ("latents", "benchmark")


def main() -> int:
    """Measure, print one line per figure, and tell whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        seconds = write(store, arguments.items)
        refs = shuffled_refs(store)
        batches = [refs[i : i + arguments.batch] for i in range(0, len(refs), arguments.batch)]
        with ItemReader(store) as reader:
            seen = compare(store, reader, batches)
    print(f"write: {arguments.items / seconds:.0f} items/s, synced")
    for name, took in seen.items():
        ratio = seen["bare preadv loop"] / took
        print(f"{name}: {len(refs) / took:.0f} items/s, {ratio:.2f} of the bare loop")
    good = len(refs) / seen["read_many"] >= ITEMS_PER_SECOND
    print(f"read_many, bound {ITEMS_PER_SECOND} items/s: {verdict(good)}")
    near = seen["bare preadv loop"] / seen["read_stacked"] >= RATIO
    print(f"read_stacked, bound {RATIO} of the bare loop: {verdict(near)}")
    return 0 if good and near else 1


def write(store: Store, count: int) -> float:
    """Write the items; returns the seconds it took."""
    import torch

    noise = torch.randn(64, 4, 128, 128).to(torch.bfloat16)
    start = time.perf_counter()
    with ShardWriter(store, *STAGE) as writer:
        for number in range(count):
            writer.add(number.to_bytes(16, "big"), {"latent": noise[number % 64]})
    return time.perf_counter() - start


def shuffled_refs(store: Store) -> list[ItemRef]:
    """Find the items and shuffle them."""
    rows = read_index(store, *STAGE).to_pylist()
    base = stage_path(*STAGE)
    refs = [
        ItemRef(base, row["shard"], row["offset"], row["nbytes"], row["layout"], row["xxh3"])
        for row in rows
    ]
    return [refs[place] for place in np.random.default_rng(0).permutation(len(refs))]


def compare(store: Store, reader: ItemReader, batches: list[list[ItemRef]]) -> dict[str, float]:
    """Time the loops in turns; the best round of each counts. Returns seconds."""
    shards = sorted({ref.shard for batch in batches for ref in batch})
    base = stage_path(*STAGE)
    fds = {
        shard: os.open(str(store.local_path(shard_path(base, shard))), os.O_RDONLY)
        for shard in shards
    }
    plain = [[(fds[ref.shard], ref.offset, ref.nbytes) for ref in batch] for batch in batches]
    loops: dict[str, Callable[[], None]] = {
        "bare preadv loop": lambda: bare_loop(plain),
        "read_many": lambda: our_loop(reader.read_many, batches),
        "read_stacked": lambda: our_loop(reader.read_stacked, batches),
    }
    seen = {"first pass, checksums compared": timed(loops["read_many"])}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            seen[name] = min(seen.get(name, 1e9), timed(loop))
    for fd in fds.values():
        os.close(fd)
    return seen


def bare_loop(batches: list[list[tuple[int, int, int]]]) -> None:
    """Read all items with nothing around it."""
    buffer = memoryview(bytearray(max(sum(n for _, _, n in batch) for batch in batches)))
    for batch in batches:
        start = 0
        for fd, offset, nbytes in batch:
            os.preadv(fd, [buffer[start : start + nbytes]], offset)
            start += nbytes


def our_loop(read: Callable[[list[ItemRef]], object], batches: list[list[ItemRef]]) -> None:
    """Read all items as training does."""
    for batch in batches:
        read(batch)


def timed(work: Callable[[], None]) -> float:
    """Tell how many seconds something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def verdict(good: bool) -> str:
    """Say it in a word."""
    return "ok" if good else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
