"""The hash cache and the quarantine: append-only notes, merged when read."""

import random

from storage.hashcache import append_hash_cache, read_hash_cache
from storage.quarantine import quarantine, read_quarantine
from storage.records import HASH_CACHE, QUARANTINE
from storage.store import Store
from tests.storage.samples import key


def rejected(number: int, seen: str, **changes: object) -> dict:
    return {
        "key": key(number),
        "stage": "scan",
        "path": f"{number}.jpg",
        "reason": "cut off",
        "first_seen": seen,
        "attempts": 1,
        **changes,
    }


def test_an_empty_store_has_no_notes(store: Store) -> None:
    assert read_quarantine(store).equals(QUARANTINE.empty_table())
    assert read_hash_cache(store).equals(HASH_CACHE.empty_table())
    quarantine(store, [])
    append_hash_cache(store, [])
    assert set(store.list("")) == {"store.json"}


def test_quarantine_is_merged_by_stage_and_key(store: Store) -> None:
    quarantine(store, [rejected(1, "2026-01-02"), rejected(2, "2026-01-02")])
    quarantine(store, [rejected(1, "2026-01-01", reason="worse", source_id=key(9))])
    quarantine(store, [rejected(1, "2026-01-03", stage="crops", attempts=4)])
    table = read_quarantine(store)
    assert table.schema.equals(QUARANTINE)
    rows = {(row["stage"], row["key"]): row for row in table.to_pylist()}
    assert len(rows) == len(table) == 3
    merged = rows["scan", key(1)]
    assert (merged["first_seen"], merged["attempts"]) == ("2026-01-01", 2)
    assert (merged["reason"], merged["source_id"]) == ("worse", key(9))
    assert read_quarantine(store, "crops")["attempts"].to_pylist() == [4]
    assert len(read_quarantine(store, "latents")) == 0


def test_the_newest_hash_of_a_path_counts(store: Store) -> None:
    def row(kind: str, path: str, at: int) -> dict:
        return {"kind": kind, "path": path, "size": at, "hashed_at_ns": at, "content_id": key(at)}

    rows = [row(kind, path, at) for kind in ("image", "text") for path in "abc" for at in (3, 9, 5)]
    random.Random(0).shuffle(rows)
    append_hash_cache(store, rows[:7])
    append_hash_cache(store, rows[7:])
    append_hash_cache(store, [{**row("image", "a", 9), "size": 77}])
    table = read_hash_cache(store)
    assert table.schema.equals(HASH_CACHE)
    found = {(row["kind"], row["path"]): row for row in table.to_pylist()}
    assert len(found) == len(table) == 6
    assert {row["hashed_at_ns"] for row in found.values()} == {9}
    assert found["image", "a"]["size"] == 77
