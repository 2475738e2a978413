from typing import Any

import pyarrow as pa
import pytest

from storage.records import DATASET
from tasks.report.reasons import summarise_reasons
from tasks.report.summary import (
    bucket_histogram,
    kind_shares,
    missing_captions,
    scale_table,
    stage_table,
    step_weights,
)
from tests.tasks.report import example

ROW: dict[str, Any] = {
    "concept": "c", "path": "a.jpg", "source_id": bytes(16), "kind": "full", "scale": 1.0,
    "resized_width": 64, "resized_height": 64, "bucket_width": 64, "bucket_height": 64,
    "original_width": 100, "original_height": 100, "resolution_index": 0, "phase": None,
    "variation": 0, "split": "train", "prompts": ["p"], "prompt_origin": "sidecar", "repeats": 1.0,
}  # fmt: skip


def table(*changes: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**ROW, **change} for change in changes], schema=DATASET)


def test_alternatives_take_turns() -> None:
    tile = {"kind": "detail", "scale": 2.0}
    rows = table(
        {"resolution_index": 0},
        {"resolution_index": 1},
        {**tile, "phase": 0},
        {**tile, "phase": 0},
        {**tile, "phase": 1},
        {"path": "b.jpg", "source_id": b"b" * 16, "repeats": 2.5},
        {"path": "v.jpg", "source_id": b"v" * 16, "split": "validation"},
    )
    assert step_weights(rows).tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 2.5, 0.0]
    full, detail = kind_shares(rows)
    assert (full["kind"], full["samples"], detail["samples"]) == ("full", 4, 3)
    assert full["share"] == pytest.approx(3.5 / 5)
    assert detail["share"] == pytest.approx(1.5 / 5)


def test_shares_of_nothing_are_zero() -> None:
    assert kind_shares(table()) == []
    assert kind_shares(table({"repeats": 0.0}))[0]["share"] == 0


def test_scales_count_views_samples_and_enlargement() -> None:
    shape = example.views_of(100, 100, scales=(2.0,), context=False)[-1]
    view = example.view_row("c", "a.jpg", bytes(16), shape)
    blank = {**view, "dropped_reason": "blank"}
    none = {**dict.fromkeys(view), "concept": "c", "path": "b.jpg", "kind": "detail", "scale": 2.0}
    views = example.tables([view, blank, none], [], [])["crops"]
    rows = table(
        {"kind": "detail", "scale": 2.0, "resized_width": 250, "resized_height": 250},
        {"scale": 1.0},
    )
    full, detail = scale_table(rows, views)
    assert full == {
        "kind": "full", "scale": 1.0, "measured": 0, "dropped": 0, "without": 0,
        "samples": 1, "enlarged": 0, "factor": 0.64,
    }  # fmt: skip
    assert detail == {
        "kind": "detail", "scale": 2.0, "measured": 2, "dropped": 1, "without": 1,
        "samples": 1, "enlarged": 1, "factor": 2.5,
    }  # fmt: skip


def test_buckets_go_from_wide_to_tall() -> None:
    rows = table(
        {},
        {"bucket_width": 48, "bucket_height": 80},
        {"bucket_width": 80, "bucket_height": 48},
        {"kind": "detail"},
    )
    assert bucket_histogram(rows) == [
        {"size": "80×48", "kinds": {"full": 1}, "total": 1},
        {"size": "64×64", "kinds": {"full": 1, "detail": 1}, "total": 2},
        {"size": "48×80", "kinds": {"full": 1}, "total": 1},
    ]


def test_missing_captions_are_no_prompt_or_no_origin() -> None:
    rows = table(
        {},
        {"path": "b.jpg", "prompts": []},
        {"path": "c.jpg", "prompt_origin": "none", "prompts": [""]},
        {"path": "c.jpg", "prompts": []},
        {"path": "d.jpg", "prompts": None},
    )
    assert missing_captions(rows) == [("c", "b.jpg"), ("c", "c.jpg"), ("c", "d.jpg")]


def test_stages_come_in_pipeline_order_with_reasons_by_weight() -> None:
    counts: dict[str, dict[str, Any]] = {
        "latents": {"wanted": 3},
        "zoo": {},
        "scan": {"wanted": 2, "exact": False, "reasons": {"a": 1, "b": 5}},
    }
    stages = stage_table(counts)
    assert [stage["name"] for stage in stages] == ["scan", "latents", "zoo"]
    assert stages[0]["reasons"] == [("b", 5), ("a", 1)]
    assert stages[0]["exact"] is False and stages[1]["exact"] is True
    assert stages[1]["numbers"][:2] == [3, None]


def test_reasons_of_one_wording_are_told_with_their_range() -> None:
    reasons = ["std 0.0012 < 0.004", "std 0.0031 < 0.004", "masked", "std 0.0020 < 0.004"]
    assert summarise_reasons(reasons) == [("std 0.0012–0.0031 < 0.004", 3), ("masked", 1)]
    assert summarise_reasons([]) == []
