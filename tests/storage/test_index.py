import logging
from pathlib import Path

import pyarrow as pa
import pytest

from storage.index import missing, read_index, write_stage_json
from storage.records import INDEX, K
from storage.shards import RecordWriter, ShardWriter
from storage.store import Store
from tests.storage.samples import STAGE, key, latent, write_items

BASE = "stages/latents/abc123"


def keys(table: pa.Table) -> set[bytes]:
    return set(table["key"].to_pylist())


def wanted(numbers: range) -> pa.Table:
    rows = [{"key": key(number), "prompts": ["a", str(number)]} for number in numbers]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([("key", K), ("prompts", pa.list_(pa.string()))])
    )


def flip_byte(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))


def test_an_empty_stage_has_its_columns(store: Store) -> None:
    table = read_index(store, *STAGE)
    assert len(table) == 0
    assert table.column_names == [*INDEX.names, "shard"]
    assert read_index(store, "prompts", "p", ["key", "origin"]).column_names == ["key", "origin"]


def test_all_segments_are_read_and_the_newest_commit_wins(store: Store) -> None:
    write_items(store, range(6), flush_items=3)
    first = {row["key"]: row["shard"] for row in read_index(store, *STAGE).to_pylist()}
    write_items(store, range(3, 9))
    table = read_index(store, *STAGE)
    assert len(table) == 9
    assert keys(table) == {key(number) for number in range(9)}
    again = {row["key"]: row["shard"] for row in table.to_pylist()}
    assert {name for name in first if again[name] == first[name]} == {key(0), key(1), key(2)}
    only = read_index(store, *STAGE, columns=["xxh3", "key"])
    assert only.column_names == ["xxh3", "key"]
    assert len(only) == 9


def test_an_unknown_column_is_named(local_store: Store) -> None:
    write_items(local_store, range(1))
    with pytest.raises(ValueError, match="n_tokens"):
        read_index(local_store, *STAGE, columns=["key", "n_tokens"])


def test_a_column_of_some_segments_is_null_in_the_others(local_store: Store) -> None:
    write_items(local_store, range(1))
    with ShardWriter(local_store, *STAGE) as writer:
        writer.add(key(1), {"latent": latent(1)}, n_tokens=7)
    table = read_index(local_store, *STAGE, columns=["key", "n_tokens"])
    assert dict(zip(*table.to_pydict().values(), strict=True)) == {key(0): None, key(1): 7}


def test_missing_keeps_order_and_nested_columns(local_store: Store) -> None:
    write_items(local_store, range(3, 6))
    index = read_index(local_store, *STAGE, columns=["key"])
    left = missing(wanted(range(8)), index)
    assert left["prompts"].to_pylist() == [["a", str(number)] for number in (0, 1, 2, 6, 7)]
    assert len(missing(wanted(range(3, 6)), index)) == 0
    assert missing(wanted(range(4)), index.slice(0, 0)).equals(wanted(range(4)))


def test_items_of_a_lost_or_cut_shard_are_absent(store: Store) -> None:
    write_items(store, range(9), flush_items=3)
    names = list(store.list(f"{BASE}/shards"))
    store.delete(names[0])
    store.replace(names[1], store.read_bytes(names[1])[:-1])
    table = read_index(store, *STAGE)
    assert keys(table) == {key(number) for number in (6, 7, 8)}
    # and are made again:
    left = missing(wanted(range(9)), table)
    write_items(store, range(len(left)))
    assert keys(read_index(store, *STAGE)) == {key(number) for number in range(9)}


def test_a_garbage_segment_is_left_out_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    write_items(store, range(4), flush_items=2)
    first, second = store.list(f"{BASE}/index")
    data = store.read_bytes(first)
    store.replace(first, data[:50] + bytes([data[50] ^ 255]) + data[51:])
    with caplog.at_level(logging.WARNING):
        assert keys(read_index(store, *STAGE)) == {key(2), key(3)}
    store.replace(second, b"garbage")
    assert len(read_index(store, *STAGE)) == 0
    assert first in caplog.text


def test_a_deep_read_finds_a_flipped_bit(store: Store) -> None:
    write_items(store, range(4))
    rows = {row["key"]: row for row in read_index(store, *STAGE).to_pylist()}
    name = f"{BASE}/shards/{rows[key(2)]['shard']}.safetensors"
    data = bytearray(store.read_bytes(name))
    data[rows[key(2)]["offset"] + 5] ^= 1
    store.replace(name, bytes(data))
    assert len(read_index(store, *STAGE)) == 4
    deep = read_index(store, *STAGE, deep=True, columns=["key"])
    assert keys(deep) == {key(number) for number in (0, 1, 3)}
    assert deep.column_names == ["key"]


def test_a_repaired_item_hides_the_damaged_one(local_store: Store) -> None:
    write_items(local_store, range(4))
    row = {row["key"]: row for row in read_index(local_store, *STAGE).to_pylist()}[key(2)]
    shard = local_store.local_path(f"{BASE}/shards/{row['shard']}.safetensors")
    assert shard is not None
    flip_byte(shard, row["offset"])
    assert len(read_index(local_store, *STAGE, deep=True)) == 3
    write_items(local_store, range(2, 3))
    for deep in (True, False):
        table = read_index(local_store, *STAGE, deep=deep)
        assert len(table) == 4
        assert {r["key"]: r["shard"] for r in table.to_pylist()}[key(2)] != row["shard"]


def test_a_deep_read_of_records_checks_nothing(local_store: Store) -> None:
    schema = pa.schema([("key", K), ("value", pa.int32())])
    with RecordWriter(local_store, "prompts", "p1", schema) as writer:
        writer.add({"key": key(1), "value": 3})
    assert read_index(local_store, "prompts", "p1", deep=True)["value"].to_pylist() == [3]


def test_the_stage_note_stays(store: Store) -> None:
    write_stage_json(store, *STAGE, {"vae": "first"})
    write_stage_json(store, *STAGE, {"vae": "second"})
    assert b"first" in store.read_bytes(f"{BASE}/stage.json")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden"])
def test_stage_names_are_checked(local_store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="folder name"):
        read_index(local_store, "latents", name)
