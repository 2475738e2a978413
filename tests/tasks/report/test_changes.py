from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import digest_bytes
from storage.records import DATASET
from tasks.report.changes import CHANGES, changed_settings, compare_versions
from tests.tasks.report import example

Row = dict[str, Any]
A, B = "concept 0\0folder/image-00000.jpg", "concept 1\0folder/image-00001.jpg"
MOVED = "concept 0\0elsewhere.jpg"
NOTHING: dict[str, list[str]] = {change: [] for change in CHANGES}


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=DATASET)


def two_sources() -> list[Row]:
    return example.invented(2, context=False)[1]


def first_source(rows: list[Row], change: Callable[[Row], Row]) -> list[Row]:
    return [row | (change(row) if row["path"] == A.split("\0")[1] else {}) for row in rows]


def moved(row: Row) -> Row:
    if row["kind"] == "full":
        return {}
    other = digest_bytes(row["view_id"])
    return {"view_id": other, "sample_id": other, "left": row["left"] + 8}


CASES: dict[str, tuple[Callable[[Row], Row], dict[str, list[str]]]] = {
    "another prompt": (lambda _: {"prompts": ["other"]}, {"reprompted": [A]}),
    "one more prompt": (lambda row: {"prompts": [*row["prompts"], "b"]}, {"reprompted": [A]}),
    "other tiles": (moved, {"recropped": [A]}),
    "other augmentation": (
        lambda row: {"sample_id": digest_bytes(row["sample_id"]), "augmentation": '{"flip":true}'},
        {"varied": [A]},
    ),
    "another path": (
        lambda _: {"path": "elsewhere.jpg"},
        {"renamed": ["concept 0\0elsewhere.jpg"]},
    ),
    "other content": (
        lambda row: {**moved(row), "source_id": b"n" * 16, "view_id": digest_bytes(row["row_id"])},
        {"replaced": [A]},
    ),
    "what a version does not mean": (
        lambda _: {"luma_std": 0.9, "latent_shard": "other", "loss_weight": 3.0},
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_a_source_has_its_name(name: str) -> None:
    change, expected = CASES[name]
    old = two_sources()
    found = compare_versions(table(first_source(old, change)), table(old))
    assert found.names == NOTHING | expected


def test_sources_come_and_go() -> None:
    rows = two_sources()
    first = [row for row in rows if row["path"] == A.split("\0")[1]]
    assert compare_versions(table(rows), table(first)).names == NOTHING | {"added": [B]}
    assert compare_versions(table(first), table(rows)).names == NOTHING | {"removed": [B]}
    assert compare_versions(table(rows), table(rows)).names == NOTHING
    assert compare_versions(table(rows), table([])).names == NOTHING | {"added": [A, B]}


def test_a_renamed_source_says_what_it_was_called() -> None:
    old = two_sources()
    new = first_source(old, lambda _: {"path": "elsewhere.jpg"})
    assert compare_versions(table(new), table(old)).before == {MOVED: A}


def test_the_same_content_in_another_concept_is_another_source() -> None:
    old = two_sources()
    new = first_source(old, lambda _: {"concept": "concept 9"})
    found = compare_versions(table(new), table(old)).names
    assert found["removed"] == [A]
    assert found["added"] == [A.replace("concept 0", "concept 9")]


def test_prompts_of_new_tiles_do_not_count_as_changed_prompts() -> None:
    old = two_sources()
    fewer = [row for row in old if row["kind"] == "full"]
    assert compare_versions(table(old), table(fewer)).names == NOTHING | {"recropped": [A, B]}


@given(st.permutations(list(range(20))))
def test_the_order_of_rows_means_nothing(order: list[int]) -> None:
    rows = two_sources()
    assert len(rows) == 20
    shuffled = [rows[number] for number in order]
    assert compare_versions(table(shuffled), table(rows)).names == NOTHING


def test_settings_that_differ_are_found_by_name() -> None:
    then = {"data": {"resolution": "512", "seed": 0}, "concepts": [{"name": "a", "repeats": 1.0}]}
    now = {
        "data": {"resolution": "768", "seed": 0},
        "concepts": [{"name": "b"}, {"name": "a", "repeats": 2.0, "image": {"flip": True}}],
    }
    assert changed_settings(now, then) == [
        ("data.resolution", "512", "768"),
        ("concepts.a.repeats", 1.0, 2.0),
        ("concepts.a.image", None, {"flip": True}),
        ("concepts.b", None, {"name": "b"}),
    ]
    assert changed_settings(now, now) == []
