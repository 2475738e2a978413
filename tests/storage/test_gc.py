"""Garbage: only what nobody needs goes, in an order that a kill may break anywhere."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from storage.digest import canonical_json
from storage.errors import CorruptError
from storage.gc import Garbage, Scope, delete_garbage, find_garbage, read_plans, write_plan
from storage.index import read_index
from storage.naming import new_name
from storage.reachable import reachable
from storage.records import CAPTIONS
from storage.shards import RecordWriter
from storage.store import Store, open_store
from storage.tables import put_table
from storage.versions import Version, list_versions, read_rows
from tests.storage.histories import (
    LATENTS,
    NAME,
    History,
    add_crops,
    add_latents,
    add_version,
    key,
    require_whole,
)

OTHERS = (
    "store.json",
    "notes.txt",
    f"sources/{'a' * 32}.parquet",
    f"quarantine/{'a' * 32}.parquet",
    f"reviews/{'a' * 32}.parquet",
    f"rates/scan/{'a' * 32}.json",
    f"stages/thumbnails/{'a' * 32}/index/{'0' * 32}.parquet",
    f"stages/latents/{LATENTS}/shards/mine.safetensors",
    f"stages/latents/mine/index/{'0' * 32}.parquet",
    "stages/latents/manifests/mine.parquet",
    f"datasets/{NAME}/captions.html",
    f"datasets/{NAME}/mine.json",
    "runs/one/run.json",
    "runs/one/output/000001.json",
    "tmp/mine.safetensors",
    "probe/mine",
)
"""Files that collections leave alone, whatever is kept."""


def scope(store: Store, versions: list[Version], **changes: object) -> Scope:
    base = Scope(
        reached=reachable(store, versions),
        versions={(version.name, version.number) for version in versions},
        why_version="it is old",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def paths(garbage: list[Garbage]) -> set[str]:
    return {one.path for one in garbage}


@pytest.mark.parametrize("seed", range(8))
def test_after_every_single_deletion_all_that_is_named_is_there(seed: int) -> None:
    history = History(open_store(f"memory://{new_name()}"), turns=10, seed=seed).make()
    store, kept = history.store, history.versions[-1 - seed % 3 :]
    before = {version.number: read_rows(store, version) for version in kept}
    garbage = find_garbage(store, scope(store, kept))
    for one in garbage:
        delete_garbage(store, [one])
        require_whole(store)
    assert {version.number for version in list_versions(store, NAME)} == set(before)
    assert all(read_rows(store, version).equals(before[version.number]) for version in kept)
    assert find_garbage(store, scope(store, kept)) == [], "all of it goes at once"


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_has_something_that_is_needed(seed: int) -> None:
    history = History(open_store(f"memory://{new_name()}"), turns=12, seed=100 + seed).make()
    store, kept = history.store, history.versions[-1:]
    delete_garbage(store, find_garbage(store, scope(store, kept)))
    found = reachable(store, kept)
    wanted = set(found.keys["latents"].to_pylist())
    index = read_index(store, "latents", LATENTS, ["key", "shard"]).to_pylist()
    needed = {row["shard"] for row in index if row["key"] in wanted} | found.segments
    shards = {Path(path).stem for path in store.list(f"stages/latents/{LATENTS}/shards")}
    assert shards == needed


def test_a_story_on_every_kind_of_store(store: Store) -> None:
    add_crops(store, [1, 2, 3])
    add_latents(store, [1, 2])
    first = add_version(store, [1, 2])
    add_latents(store, [3])
    second = add_version(store, [2, 3])
    add_latents(store, [4])
    for path in OTHERS:
        if not store.exists(path):
            store.put_if_absent(path, b"{}")
    store.replace(f"datasets/{NAME}/000001.html", b"page")
    everything = store.list("")
    garbage = find_garbage(store, scope(store, [second]))
    # Item 2 lies beside 1, so their shard stays; 4 is in no version.
    assert [one.kind for one in garbage] == [
        *("version", "page", "rows", "manifest", "manifest", "segment", "shard")
    ]
    assert garbage[0].path == f"datasets/{NAME}/{first.number:06}.json"
    assert {one.path: one.nbytes for one in garbage}.items() <= everything.items()
    count, nbytes = delete_garbage(store, garbage)
    assert (count, nbytes) == (len(garbage), sum(one.nbytes for one in garbage))
    assert store.list("") == {
        path: size for path, size in everything.items() if path not in paths(garbage)
    }
    require_whole(store)
    assert set(OTHERS) <= set(store.list("") | store.list("tmp"))


def test_nothing_of_others_is_touched_even_where_nothing_is_kept(local_store: Store) -> None:
    add_latents(local_store, [1])
    add_version(local_store, [1])
    for path in OTHERS:
        local_store.put_if_absent(path, b"{}")
    delete_garbage(local_store, find_garbage(local_store, scope(local_store, [])))
    assert set(local_store.list("") | local_store.list("tmp")) == set(OTHERS)
    folders = {path.name for path in Path(local_store.root).rglob("*") if path.is_dir()}
    assert "index" in folders and "2" * 32 not in folders, "empty folders of ours go"


def test_young_files_are_left_alone(local_store: Store) -> None:
    add_latents(local_store, [1])
    local_store.put_if_absent(f"stages/latents/{LATENTS}/shards/{new_name()}.safetensors", b"half")
    (local_store.scratch_folder() / new_name()).write_bytes(b"half")
    now = time.time()
    young = scope(local_store, [], grace_seconds=60, now=now)
    assert paths(find_garbage(local_store, young)) == set()
    later = find_garbage(local_store, replace(young, now=now + 61))
    assert [one.kind for one in later] == ["segment", "shard", "shard", "note"]
    assert sorted({one.why for one in later}) == [
        "its stage is empty",
        "left behind by a process that was killed: it was never committed",
        "no kept version needs any of its items",
    ]
    # What is written takes no hour, whatever the grace period is.
    assert not any(one.kind == "leftover" for one in later)
    assert find_garbage(local_store, replace(young, now=now + 3601))[-1].kind == "leftover"


def test_a_refreshed_item_leaves_its_old_shard_behind(local_store: Store) -> None:
    add_latents(local_store, [1, 2])
    add_latents(local_store, [1, 2])
    version = add_version(local_store, [1, 2])
    (segment, shard) = find_garbage(local_store, scope(local_store, [version]))
    assert (segment.kind, shard.kind) == ("segment", "shard")
    left = read_index(local_store, "latents", LATENTS)["shard"].unique().to_pylist()
    assert Path(shard.path).stem != left[0]


def test_an_older_version_keeps_the_shards_that_its_rows_name(local_store: Store) -> None:
    add_latents(local_store, [1])
    old = add_version(local_store, [1])
    add_latents(local_store, [1])
    new = add_version(local_store, [1])
    assert find_garbage(local_store, scope(local_store, [old, new])) == []


def test_what_the_json_of_a_version_names_stays(local_store: Store) -> None:
    """The empty prompt is in no row, and grey images are in no manifest perhaps."""
    from storage.versions import commit_version

    add_latents(local_store, [1])
    add_latents(local_store, [9])
    (row,) = read_index(local_store, "latents", LATENTS).filter([True, False]).to_pylist()
    table = read_rows(local_store, add_version(local_store, [1]))
    extra = {"unconditional": [{"stage": f"stages/latents/{LATENTS}", "shard": row["shard"]}]}
    version, _ = commit_version(local_store, NAME, table, stages={}, config={}, extra=extra)
    shards = {one.path for one in find_garbage(local_store, scope(local_store, [version]))}
    assert not any(row["shard"] in path for path in shards)


def test_captions_go_only_when_asked_for_and_edits_never(local_store: Store) -> None:
    for origin, stage_id in (("generated", "3" * 32), ("edited", "4" * 32)):
        with RecordWriter(local_store, "captions", stage_id, CAPTIONS) as writer:
            writer.add({"key": key(1), "view_id": key(1), "origin": origin})
    assert find_garbage(local_store, scope(local_store, [])) == []
    (found,) = find_garbage(local_store, scope(local_store, [], captions=True))
    assert "3" * 32 in found.path
    manifest = put_table(
        local_store,
        "stages/captions/manifests",
        read_index(local_store, "captions", "3" * 32, ["key"]),
    )
    add_latents(local_store, [1])
    version = add_version(local_store, [1])
    version.meta["stages"]["captions"] = {"stage_id": "4" * 32, "manifest": manifest}
    assert find_garbage(local_store, scope(local_store, [version], captions=True)) == []


def test_half_a_backup_goes_when_nobody_trains(local_store: Store) -> None:
    path = "runs/one/backups/.writing-00000500-4711/optimizer.safetensors"
    local_store.put_if_absent(path, b"half")
    local_store.put_if_absent("runs/one/backups/00000400/optimizer.safetensors", b"whole")
    assert find_garbage(local_store, scope(local_store, [])) == []
    assert paths(find_garbage(local_store, scope(local_store, [], idle_runs={"one"}))) == {path}


def test_damage_stops_the_search(local_store: Store) -> None:
    add_latents(local_store, [1])
    version = add_version(local_store, [1])
    manifest = version.meta["stages"]["latents"]["manifest"]
    local_store.replace(manifest, b"damaged")
    with pytest.raises(CorruptError, match="manifests"):
        reachable(local_store, [version])
    local_store.delete(manifest)
    assert find_garbage(local_store, scope(local_store, [version])) == [], "rows still name it"


def test_plans_are_kept_until_they_are_carried_out(store: Store) -> None:
    first = write_plan(store, [Garbage("tmp/a", 3, "leftover", "ä")], 10.0)
    second = write_plan(store, [], 20.0)
    assert read_plans(store) == [first, second]
    store.replace(first.path, canonical_json({"files": 3}).encode())
    with pytest.raises(CorruptError, match="mark again"):
        read_plans(store)
