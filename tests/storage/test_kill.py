"""Kill -9 at any moment: nothing half-visible, nothing corrupt, all that was told is there."""

import random
import time
from pathlib import Path

import numpy as np
from safetensors import safe_open

from storage.index import read_index
from storage.reading import ItemReader
from storage.store import open_store
from tests.storage.samples import STAGE, key, latent, python, refs, write_items

WRITER = """
import sys
from storage.shards import ShardWriter
from storage.store import open_store
from tests.storage.samples import STAGE, key, latent
store = open_store(sys.argv[1])
with ShardWriter(store, *STAGE, flush_items=20) as writer:
    for number in range(100_000):
        writer.add(key(number), {"latent": latent(number)})
        if writer.num_committed == number + 1:
            print(writer.num_committed, flush=True)
"""


def told(racer) -> int:  # type: ignore[no-untyped-def]
    lines = racer.communicate()[0].split(b"\n")
    return int(lines[-2]) if len(lines) > 1 else 0


def test_two_racing_writers_are_killed(tmp_path: Path) -> None:
    url, most = str(tmp_path / "store"), 0
    for turn in range(3):
        racers = [python(WRITER, url) for _ in range(2)]
        for racer in racers:
            racer.stdout.readline()
        time.sleep(random.Random(turn).uniform(0, 0.4))
        for racer in racers:
            racer.kill()
        most = max(most, *(told(racer) for racer in racers))
    store = open_store(url, create=False)
    assert most >= 20

    found = refs(store)
    assert {key(number) for number in range(most)} <= found.keys()
    numbers = {key(number): number for number in range(100_000 if most > 5000 else 5000)}
    with ItemReader(store) as reader:
        items = reader.read_many(list(found.values()))
    for name, item in zip(found, items, strict=True):
        assert np.array_equal(item["latent"].numpy(), latent(numbers[name]))
    assert len(read_index(store, *STAGE, deep=True)) == len(found)
    for path in store.list("stages/latents/abc123/shards"):
        with safe_open(store.uri(path), "np") as shard:
            assert len(shard.keys()) == 20

    # The next run starts where they stopped.
    write_items(store, range(most, most + 30))
    assert len(read_index(store, *STAGE)) >= most + 30
