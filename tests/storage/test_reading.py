import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.errors import CorruptError, NotFoundError
from storage.reading import ItemReader, ItemRef
from storage.shards import ShardWriter
from storage.store import Store
from tests.storage.samples import STAGE, key, latent, refs, write_items


def path_of(store: Store, ref: ItemRef) -> str:
    return f"{ref.stage_path}/shards/{ref.shard}.safetensors"


def damage(store: Store, ref: ItemRef) -> None:
    data = bytearray(store.read_bytes(path_of(store, ref)))
    data[ref.offset + 1] ^= 4
    store.replace(path_of(store, ref), bytes(data))


def test_items_come_back_in_the_order_asked_for(store: Store, tmp_path: Path) -> None:
    write_items(store, range(40), flush_items=15)
    found = refs(store)
    numbers = np.random.default_rng(1).permutation(40).tolist()
    with ItemReader(store, cache_dir=tmp_path / "cache") as reader:
        for _ in range(2):
            items = reader.read_many([found[key(number)] for number in numbers])
            for number, item in zip(numbers, items, strict=True):
                assert np.array_equal(item["latent"].numpy(), latent(number))
        ref = found[key(7)]
        out = bytearray(ref.nbytes)
        where = (ref.stage_path, ref.shard, ref.offset, ref.nbytes)
        assert bytes(reader.read(*where)) == latent(7).tobytes()
        reader.read(*where, memoryview(out))
        assert bytes(out) == latent(7).tobytes()
        assert reader.read_many([]) == []


def test_mixed_layouts_and_types(local_store: Store) -> None:
    made = {}
    with ShardWriter(local_store, *STAGE) as writer:
        for number in range(12):
            made[key(number)] = {
                "hidden": torch.randn(3 + number % 3, 5).to(torch.bfloat16),
                "pooled": torch.randn(4),
                "count": torch.tensor(number),
                "flags": torch.tensor([True, False, True]),
            }
            writer.add(key(number), made[key(number)])
    with ItemReader(local_store) as reader:
        items = reader.read_many([refs(local_store)[name] for name in made])
    for expected, item in zip(made.values(), items, strict=True):
        assert expected.keys() == item.keys()
        for field, tensor in expected.items():
            assert item[field].dtype == tensor.dtype
            assert torch.equal(item[field], tensor)


def test_items_of_one_layout_stack(local_store: Store) -> None:
    write_items(local_store, range(6))
    found = refs(local_store)
    with ItemReader(local_store) as reader:
        stacked = reader.read_stacked([found[key(number)] for number in (4, 1)])
        assert stacked["latent"].shape == (2, 4, 8, 8)
        assert np.array_equal(stacked["latent"][1].numpy(), latent(1))
        other = dataclasses.replace(found[key(0)], layout='[["x","U8",[512],0]]')
        with pytest.raises(ValueError, match="2 layouts"):
            reader.read_stacked([found[key(1)], other])


def test_a_flipped_bit_is_an_error_that_names_the_place(store: Store, tmp_path: Path) -> None:
    write_items(store, range(4))
    ref = refs(store)[key(2)]
    damage(store, ref)
    with ItemReader(store, cache_dir=tmp_path) as reader:
        with pytest.raises(CorruptError, match=f"{ref.shard}.* at {ref.offset}: .*checksum"):
            reader.read_many([ref])
        assert len(reader.read_many([refs(store)[key(1)]])) == 1
    with ItemReader(store, cache_dir=tmp_path, verify=False) as reader:
        assert len(reader.read_many([ref])) == 1


def test_a_lost_or_cut_shard_is_named(local_store: Store) -> None:
    write_items(local_store, range(2), flush_items=1)
    first, second = refs(local_store).values()
    local_store.delete(path_of(local_store, first))
    cut = local_store.read_bytes(path_of(local_store, second))[:-8]
    local_store.replace(path_of(local_store, second), cut)
    with ItemReader(local_store) as reader:
        with pytest.raises(NotFoundError, match=first.shard):
            reader.read_many([first])
        with pytest.raises(CorruptError, match=rf"{second.shard}.*was cut"):
            reader.read_many([second])


def test_a_wrong_layout_is_an_error(local_store: Store) -> None:
    write_items(local_store, range(1))
    (ref,) = refs(local_store).values()
    with ItemReader(local_store) as reader:
        for layout in ('[["x","U8",[3],0]]', "nonsense", '[["x","Q9",[3],0]]'):
            with pytest.raises(CorruptError, match="layout"):
                reader.read_many([dataclasses.replace(ref, layout=layout)])


def test_remote_shards_are_kept_within_bounds(store_url: str, tmp_path: Path) -> None:
    from storage.store import open_store

    store = open_store(store_url)
    if store.is_local:
        pytest.skip("nothing is fetched")
    write_items(store, range(8), flush_items=2)
    found = refs(store)
    size = store.size(path_of(store, found[key(0)]))
    cache = tmp_path / "cache"
    with ItemReader(store, cache_dir=cache, cache_bytes=2 * size) as reader:
        reader.read_many(list(found.values()))
        assert len(list(cache.iterdir())) <= 2
        again = reader.read_many([found[key(number)] for number in (0, 5, 3)])
    assert np.array_equal(again[1]["latent"].numpy(), latent(5))
    store.delete(path_of(store, found[key(0)]))
    with ItemReader(store, cache_dir=tmp_path / "new") as reader, pytest.raises(NotFoundError):
        reader.read_many([found[key(0)]])


def test_a_damaged_copy_is_fetched_again(tmp_path: Path) -> None:
    from storage.store import open_store

    store = open_store(f"memory://{tmp_path.name}-copy")
    write_items(store, range(3))
    ref = refs(store)[key(1)]
    with ItemReader(store, cache_dir=tmp_path) as reader:
        reader.read_many([ref])
    (copy,) = tmp_path.iterdir()
    data = bytearray(copy.read_bytes())
    data[ref.offset] ^= 1
    copy.write_bytes(data)
    with ItemReader(store, cache_dir=tmp_path) as reader:
        (item,) = reader.read_many([ref])
    assert np.array_equal(item["latent"].numpy(), latent(1))


def test_threads_share_a_reader(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import storage.reading

    monkeypatch.setattr(storage.reading, "_OPEN_SHARDS", 3)
    write_items(local_store, range(60), flush_items=5)
    found, wrong, done = refs(local_store), [], []
    with ItemReader(local_store, threads=4) as reader:

        def work(seed: int) -> None:
            for _ in range(10):
                numbers = np.random.default_rng(seed).permutation(60).tolist()
                items = reader.read_many([found[key(number)] for number in numbers])
                wrong.extend(
                    number
                    for number, item in zip(numbers, items, strict=True)
                    if not np.array_equal(item["latent"].numpy(), latent(number))
                )
                done.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (wrong, len(done)) == ([], 40)
        assert len(reader._handles) <= 3
