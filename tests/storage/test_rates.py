import dataclasses

import pytest

from storage.naming import new_name
from storage.rates import KEPT, Rate, append_rate, read_rates, written_since
from storage.store import Store

RATE = Rate(
    stage="crops",
    stage_id="ab",
    items=10,
    units=12.5,
    seconds=3.0,
    nbytes=1000,
    device="cpu",
    host="here",
    finished_at="2026-01-01T00:00:00Z",
)


def test_the_newest_come_first_and_only_those_of_the_stage(store: Store) -> None:
    assert read_rates(store, "crops") == []
    rates = [dataclasses.replace(RATE, items=number) for number in range(3)]
    for rate in rates:
        append_rate(store, rate)
    append_rate(store, dataclasses.replace(RATE, stage="text"))
    assert read_rates(store, "crops") == rates[::-1]
    assert read_rates(store, "crops", 1) == rates[:1:-1]


def test_old_ones_are_deleted_but_nothing_that_is_not_ours(local_store: Store) -> None:
    for name in ("rates/crops/notes.json", "rates/crops/zz.txt", "rates/text/a.json"):
        local_store.put_if_absent(name, b"{}")
    for number in range(KEPT + 3):
        append_rate(local_store, dataclasses.replace(RATE, items=number))
    assert [rate.items for rate in read_rates(local_store, "crops")] == list(range(KEPT + 2, 2, -1))
    assert len(local_store.list("rates/crops")) == KEPT + 2
    assert local_store.exists("rates/text/a.json")


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"stage": "crops"}'])
def test_a_damaged_record_is_left_out(local_store: Store, damage: bytes) -> None:
    append_rate(local_store, RATE)
    local_store.put_if_absent(f"rates/crops/{new_name()}.json", damage)
    assert read_rates(local_store, "crops") == [RATE]


def test_only_younger_files_of_the_store_are_counted(local_store: Store) -> None:
    local_store.put_if_absent(f"a/{new_name()}.parquet", b"12345")
    moment = new_name()
    local_store.put_if_absent(f"a/b/{new_name()}.parquet", b"123")
    local_store.put_if_absent(f"c/{new_name()}.json", b"12")
    local_store.put_if_absent("a/stage.json", b"1234567")
    assert written_since(local_store, ["a"], moment) == 3
    assert written_since(local_store, ["a", "c"], moment) == 5
