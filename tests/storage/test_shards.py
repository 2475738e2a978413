import io
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from storage.index import read_index
from storage.records import CROPS, INDEX
from storage.shards import RecordWriter, ShardWriter
from storage.store import Store
from tests.storage.samples import STAGE, key, latent, write_items

BASE = "stages/latents/abc123"


def shards(store: Store) -> list[str]:
    return list(store.list(f"{BASE}/shards"))


def segments(store: Store) -> list[str]:
    return list(store.list(f"{BASE}/index"))


def test_stock_readers_open_what_is_committed(store: Store, tmp_path: Path) -> None:
    write_items(store, range(5))
    (shard,), (segment,) = shards(store), segments(store)
    store.fetch_file(shard, tmp_path / "copy.safetensors")
    tensors = load_file(tmp_path / "copy.safetensors")
    assert set(tensors) == {f"{key(number).hex()}.latent" for number in range(5)}
    for number in range(5):
        assert np.array_equal(tensors[f"{key(number).hex()}.latent"].numpy(), latent(number))
    with safe_open(tmp_path / "copy.safetensors", "pt") as opened:
        assert opened.metadata()["stage_id"] == "abc123"
        assert opened.metadata()["items"] == "5"
    table = pq.read_table(io.BytesIO(store.read_bytes(segment)))
    assert table.schema.equals(INDEX, check_metadata=False)
    assert json.loads(table.schema.metadata[b"tilewright"])["shard_bytes"] == store.size(shard)


def test_any_types_and_shapes_lie_adjacent_and_aligned(local_store: Store) -> None:
    tensors = {
        "byte": torch.arange(3, dtype=torch.uint8),
        "mask": np.array([True, False, True]),
        "hidden": torch.randn(7, 5).to(torch.bfloat16),
        "pooled": np.arange(3, dtype=np.float64),
        "scalar": torch.tensor(2.5),
        "big_endian": np.arange(4, dtype=">i4"),
        "strided": torch.arange(12).reshape(3, 4).T,
        "empty": np.zeros((0, 4), np.float32),
    }
    with ShardWriter(local_store, *STAGE) as writer:
        writer.add(key(0), tensors)
        writer.add(key(1), tensors)
    loaded = load_file(Path(local_store.root) / shards(local_store)[0])
    rows = read_index(local_store, *STAGE).to_pylist()
    for row in rows:
        for field, tensor in tensors.items():
            found = loaded[f"{row['key'].hex()}.{field}"]
            expected = (
                torch.as_tensor(np.asarray(tensor).astype("i4"))
                if field == "big_endian"
                else torch.as_tensor(tensor)
            )
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
        assert row["offset"] % 8 == 0
    assert rows[0]["nbytes"] == sum(
        np.asarray(t).nbytes if isinstance(t, np.ndarray) else t.nbytes for t in tensors.values()
    )


def test_a_type_that_cannot_be_stored_is_named(local_store: Store) -> None:
    with ShardWriter(local_store, *STAGE) as writer:
        writer.add(key(1), {"latent": latent(1)})
        with pytest.raises(ValueError, match="complex64"):
            writer.add(key(2), {"fine": latent(2), "latent": np.zeros(3, np.complex64)})
        with pytest.raises(ValueError, match="needs tensors"):
            writer.add(key(3), {})
    assert len(read_index(local_store, *STAGE)) == 1


def test_flush_rules(local_store: Store) -> None:
    write_items(local_store, range(10), flush_items=4)
    assert len(shards(local_store)) == 3
    write_items(local_store, range(10, 20), flush_bytes=2 * latent(0).nbytes)
    assert len(shards(local_store)) == 3 + 5
    with ShardWriter(local_store, *STAGE, flush_seconds=0.05) as writer:
        writer.add(key(30), {"latent": latent(30)})
        assert writer.num_committed == 0
        time.sleep(0.06)
        writer.add(key(31), {"latent": latent(31)})
        assert writer.num_committed == 2
    assert len(read_index(local_store, *STAGE)) == 22


def test_commit_counts_and_an_empty_one_writes_nothing(store: Store) -> None:
    with ShardWriter(store, *STAGE) as writer:
        assert writer.commit() == 0
        writer.add(key(1), {"latent": latent(1)})
        writer.add(key(1), {"latent": latent(1)})
        assert writer.commit() == 1
    assert writer.num_committed == 1
    assert len(shards(store)) == len(segments(store)) == 1


def test_an_exception_drops_what_is_not_committed(local_store: Store) -> None:
    def fail() -> None:
        with ShardWriter(local_store, *STAGE, flush_items=2) as writer:
            for number in range(3):
                writer.add(key(number), {"latent": latent(number)})
            raise RuntimeError("encoder died")

    with pytest.raises(RuntimeError, match="encoder died"):
        fail()
    assert len(read_index(local_store, *STAGE)) == 2
    assert list(local_store.scratch_folder().iterdir()) == []


def test_threads_share_a_writer(local_store: Store) -> None:
    with ShardWriter(local_store, *STAGE, flush_items=16) as writer:

        def work(start: int) -> None:
            for number in range(start, start + 25):
                writer.add(key(number), {"latent": latent(number)}, n_tokens=number)

        threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 100, 25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    table = read_index(local_store, *STAGE)
    assert {row["key"]: row["n_tokens"] for row in table.to_pylist()} == {
        key(number): number for number in range(100)
    }


def test_memory_stays_bounded(local_store: Store) -> None:
    import psutil

    block = np.zeros(1 << 20, np.uint8)
    with ShardWriter(local_store, *STAGE) as writer:
        writer.add(key(0), {"latent": block})
        before = psutil.Process(os.getpid()).memory_info().rss
        for number in range(1, 100):
            writer.add(key(number), {"latent": block})
        writer.commit()
        assert psutil.Process(os.getpid()).memory_info().rss - before < 40 << 20


def test_records_are_committed_without_shards(store: Store) -> None:
    with RecordWriter(store, "crops", "c1", CROPS, flush_items=2) as writer:
        for number in range(5):
            writer.add({"key": key(number), "luma_std": 0.5})
        with pytest.raises(ValueError, match="luma"):
            writer.add({"key": key(9), "luma": 1})
    assert writer.num_committed == 5
    table = read_index(store, "crops", "c1")
    assert table.column_names == [*CROPS.names, "shard"]
    assert table["edge_share"].null_count == 5
    assert len(store.list("stages/crops/c1/index")) == 3
    assert store.list("stages/crops/c1/shards") == {}


def test_records_are_dropped_on_an_exception(local_store: Store) -> None:
    def fail() -> None:
        with RecordWriter(local_store, "crops", "c1", CROPS) as writer:
            writer.add({"key": key(1)})
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert read_index(local_store, "crops", "c1").equals(
        CROPS.empty_table().append_column("shard", pa.array([], pa.string()).dictionary_encode())
    )


def test_rows_that_come_minutes_apart_are_committed_in_time(local_store: Store) -> None:
    """Nobody adds a row for longer than the interval; the one that waits is committed."""
    with RecordWriter(local_store, "crops", "c1", CROPS, flush_seconds=0.1) as writer:
        writer.commit_due()
        assert writer.num_committed == 0
        writer.add({"key": key(1)})
        writer.commit_due()
        assert writer.num_committed == 0
        time.sleep(0.15)
        writer.commit_due()
        assert writer.num_committed == read_index(local_store, "crops", "c1").num_rows == 1
        writer.commit_due()
        assert len(local_store.list("stages/crops/c1/index")) == 1
