import json

import pyarrow as pa
import pytest

from storage.errors import CorruptError, NotFoundError
from storage.records import DATASET
from storage.store import Store
from storage.tables import put_table
from storage.versions import (
    Version,
    commit_version,
    content_digest,
    get_version,
    latest_version,
    list_versions,
    read_rows,
)
from tests.storage.samples import dataset, python


def commit(store: Store, table: pa.Table, **changes: dict) -> tuple[Version, bool]:
    facts = {"stages": {"latents": {"id": "l1"}}, "config": {"rank": 2.0}, "extra": {}, **changes}
    return commit_version(store, "harbour", table, **facts)


def test_a_version_holds_its_rows_sorted(store: Store) -> None:
    assert latest_version(store, "harbour") is None
    table = dataset(10)
    version, new = commit(store, table)
    assert new
    assert (version.number, version.num_samples, version.meta["num_rows"]) == (1, 8, 10)
    rows = read_rows(store, version)
    assert rows.schema.equals(DATASET)
    assert rows.equals(table.sort_by("row_id"))
    assert read_rows(store, version, ["path", "row_id"]).column_names == ["path", "row_id"]
    assert get_version(store, "harbour", 1) == version == latest_version(store, "harbour")
    assert version.uri.endswith("datasets/harbour/000001.json")


def test_the_same_again_makes_no_version(store: Store) -> None:
    first, _ = commit(store, dataset(10))
    again, new = commit(store, dataset(10).take(list(range(9, -1, -1))))
    assert (again, new) == (first, False)
    other, new = commit(store, dataset(10), config={"rank": 3})
    assert (other.number, new, other.meta["parent"]) == (2, True, 1)
    assert other.content_digest == first.content_digest
    back, new = commit(store, dataset(10))
    assert (back.number, new) == (3, True)
    assert [version.number for version in list_versions(store, "harbour")] == [1, 2, 3]


def test_what_counts_as_content() -> None:
    base = dataset(10)
    same = [
        base.take(list(range(9, -1, -1))),
        dataset(10, shard="elsewhere"),
        base.set_column(5, "path", pa.array([f"renamed/{n}.jpg" for n in range(10)])),
        pa.concat_tables([base.slice(0, 3), base.slice(3)]),
    ]
    assert {content_digest(table) for table in same} == {content_digest(base)}
    stage = base.schema.get_field_index("latent_stage")
    other = [
        dataset(9),
        dataset(10, prompt="a ship"),
        base.set_column(stage, "latent_stage", pa.array(["stages/latents/l2"] * 10)),
    ]
    digests = {content_digest(table) for table in [base, *other]}
    assert len(digests) == 4
    assert len(content_digest(dataset(0))) == 32


def test_a_rename_is_a_version_with_the_same_content(local_store: Store) -> None:
    table = dataset(4)
    first, _ = commit(local_store, table)
    renamed = table.set_column(5, "path", pa.array(["moved.jpg"] * 4))
    second, new = commit(local_store, renamed)
    assert (new, second.number) == (True, 2)
    assert first.content_digest == second.content_digest


def test_wrong_tables_are_refused(local_store: Store) -> None:
    with pytest.raises(ValueError, match="latent_shard"):
        commit(local_store, dataset(2).drop_columns(["latent_shard"]))
    with pytest.raises(ValueError, match="surprise"):
        commit(local_store, dataset(2).append_column("surprise", pa.array([1, 2])))
    with pytest.raises(ValueError, match="one row per row_id"):
        commit(local_store, pa.concat_tables([dataset(2), dataset(1)]))
    with pytest.raises(ValueError, match="folder name"):
        commit_version(local_store, "../x", dataset(1), stages={}, config={}, extra={})
    assert local_store.list("datasets") == {}


def test_missing_and_damaged_versions_are_named(store: Store) -> None:
    version, _ = commit(store, dataset(3))
    with pytest.raises(NotFoundError, match="no version 7; newest: 1"):
        get_version(store, "harbour", 7)
    table = version.meta["table"]
    data = store.read_bytes(table)
    store.replace(table, data[: len(data) // 2])
    with pytest.raises(CorruptError, match=r"\.parquet is damaged"):
        read_rows(store, version)
    store.delete(table)
    with pytest.raises(CorruptError, match="is gone"):
        read_rows(store, version)
    store.replace("datasets/harbour/000001.json", b"{not json")
    for read in (
        lambda: latest_version(store, "harbour"),
        lambda: commit(store, dataset(3)),
        lambda: list_versions(store, "harbour"),
    ):
        with pytest.raises(CorruptError, match=r"000001\.json"):
            read()
    store.replace("datasets/harbour/000001.json", b"[]")
    with pytest.raises(CorruptError, match=r"000001\.json"):
        latest_version(store, "harbour")


RACE = """
import sys
from storage.store import open_store
from storage.versions import commit_version
from tests.storage.samples import dataset
store = open_store(sys.argv[1], create=False)
for turn in range(int(sys.argv[3])):
    facts = {"extra": {"who": sys.argv[2], "turn": turn}}
    version, new = commit_version(store, "race", dataset(3), stages={}, config={}, **facts)
    assert new and version.meta["extra"] == facts["extra"], version
"""


@pytest.mark.parametrize("place", ["local", "s3"])
def test_four_processes_make_one_history(
    place: str, request: pytest.FixtureRequest, tmp_path: object
) -> None:
    from storage.store import open_store

    url = str(request.getfixturevalue("s3_url")) if place == "s3" else f"{tmp_path}/store"
    store, turns = open_store(url), 3 if place == "s3" else 15
    racers = [python(RACE, url, str(number), str(turns)) for number in range(4)]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors.decode()
    versions = list_versions(store, "race")
    assert [version.number for version in versions] == list(range(1, 4 * turns + 1))
    assert [version.meta["parent"] for version in versions] == [None, *range(1, 4 * turns)]
    made = {json.dumps(version.meta["extra"], sort_keys=True) for version in versions}
    assert len(made) == 4 * turns


def test_a_version_of_an_older_release_lacks_later_columns_and_reads_as_null(store: Store) -> None:
    version, _ = commit(store, dataset(4))
    older = read_rows(store, version).drop_columns(["augmentation", "mask_offset"])
    version.meta["table"] = put_table(store, "datasets/harbour", older)
    rows = read_rows(store, version, ["row_id", "augmentation", "mask_offset"])
    assert rows.column_names == ["row_id", "augmentation", "mask_offset"]
    assert rows["augmentation"].null_count == rows["mask_offset"].null_count == 4
