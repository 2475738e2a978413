from typing import Any

import pyarrow as pa
import pytest

from storage.records import DATASET
from tasks.report.plots import aspect_plot, bucket_borders, resolution_plot, training_resolutions
from tasks.report.reasons import summarise_reasons
from tasks.report.summary import (
    bucket_histogram,
    concept_table,
    kind_counts,
    missing_captions,
    scale_table,
    stage_table,
)
from tests.tasks.report import example

ROW: dict[str, Any] = {
    "concept": "c", "path": "a.jpg", "source_id": bytes(16), "kind": "full", "scale": 1.0,
    "resized_width": 64, "resized_height": 64, "bucket_width": 64, "bucket_height": 64,
    "original_width": 100, "original_height": 100, "resolution_index": 0, "phase": None,
    "variation": 0, "split": "train", "prompts": ["p"], "prompt_origin": "sidecar", "repeats": 1.0,
    "context": "p", "loss_weight": 1.0, "tiles_per_epoch": 0,
}  # fmt: skip


def table(*changes: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**ROW, **change} for change in changes], schema=DATASET)


def test_kinds_are_counted_in_their_order() -> None:
    assert kind_counts(table({"kind": "context"}, {}, {})) == {"full": 2, "context": 1}
    assert kind_counts(table()) == {}


def test_scales_count_views_samples_and_enlargement() -> None:
    shape = example.views_of(100, 100, scales=(2.0,), context=False)[-1]
    view = example.view_row("c", "a.jpg", bytes(16), shape)
    blank = {**view, "key": b"b" * 16, "dropped_reason": "blank"}
    again = {**view, "variation": 1}  # a variation is no view of its own
    none = {**dict.fromkeys(view), "concept": "c", "path": "b.jpg", "kind": "detail", "scale": 2.0}
    views = example.tables([view, again, blank, none], [], []).views
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
    none = {"context": "", "prompt_origin": "none"}
    rows = table(
        {},
        {"path": "b.jpg", "prompts": [], **none},
        {"path": "c.jpg", "prompts": [""], **none},
        {"path": "c.jpg", "prompts": [], "context": None},
        {"path": "d.jpg", "prompts": None, "context": None, "prompt_origin": None},
        # uncaptioned_prompt = "empty": the source has a caption, only this tile trains without.
        {"path": "e.jpg", "kind": "detail", "prompts": [""], "prompt_origin": "none"},
        # A tile with a caption of its own in a source without one.
        {"path": "f.jpg", "kind": "detail", "context": "", "prompt_origin": "edited"},
    )
    assert missing_captions(rows) == [("c", "b.jpg"), ("c", "c.jpg"), ("c", "d.jpg")]


def test_concepts_say_what_they_give_and_how_they_are_trained() -> None:
    rows = table(
        {},
        {"kind": "detail", "prompt_origin": "inherited"},
        {"concept": "v", "split": "validation", "path": "v.jpg"},
        {"concept": "s", "samples_per_epoch": 7, "tiles_per_epoch": 2, "path": "s.jpg"},
    )
    scan = example.tables([], [], [example.scanned("c", "a.jpg"), example.scanned("z", "z")]).scan
    found = {line["name"]: line for line in concept_table(rows, scan)}
    assert list(found) == ["c", "s", "v", "z"]
    assert found["c"] == {
        "name": "c", "files": 1, "kinds": {"full": 1, "detail": 1, "context": 0},
        "origins": [("inherited", 1), ("sidecar", 1)], "split": "train", "repeats": 1.0,
        "samples_per_epoch": None, "tiles_per_epoch": 0, "loss_weight": 1.0,
    }  # fmt: skip
    assert (found["s"]["samples_per_epoch"], found["s"]["tiles_per_epoch"]) == (7, 2)
    assert found["v"]["split"] == "validation"
    assert found["z"]["split"] is None


def test_stages_come_in_pipeline_order_with_reasons_by_weight() -> None:
    counts: dict[str, dict[str, Any]] = {
        "latents": {"wanted": 3},
        "zoo": {},
        "scan": {"wanted": 2, "exact": False, "reasons": {"a": 1, "b": 5}},
    }
    scan, latents, zoo = stage_table(counts)
    assert (scan["name"], latents["name"], zoo["name"]) == ("scan", "latents", "zoo")
    assert scan["reasons"] == [("b", 5), ("a", 1)] and not scan["exact"]
    assert latents["numbers"][0] == 3 and latents["exact"]


def test_reasons_that_differ_in_numbers_are_one() -> None:
    told = summarise_reasons(["std 0.0012 < 0.004", "short side 9", "std 0.0031 < 0.004"])
    assert told == [("std 0.0012–0.0031 < 0.004", 2), ("short side 9", 1)]


def test_bucket_borders_are_where_an_image_changes_its_bucket() -> None:
    from tasks.imaging.buckets import bucket_sizes, choose_bucket

    sizes = bucket_sizes(512, 64)
    borders = bucket_borders(sizes)
    assert len(borders) > 10
    for border in borders:
        chosen = [choose_bucket(round(1e6 * 2 ** (border + step)), 1_000_000, sizes)
                  for step in (-0.001, 0.001)]  # fmt: skip
        assert chosen[0] != chosen[1], border


def test_plots_hold_every_source() -> None:
    import numpy as np

    width, height = np.array([1000, 1010, 4000, -1]), np.array([1000, 990, 2000, -1])
    sizes = resolution_plot(width, height, [512, 64])
    assert sizes is not None
    told = [int(dot["title"].split()[0]) for dot in sizes["dots"]]
    assert sum(told) == 3 and len(told) == 2
    assert [area["label"] for area in sizes["areas"]] == ["512²"]  # 64 is far from all
    aspects = aspect_plot(width, height, [])
    assert aspects is not None
    assert sum(int(bar["title"].split()[0]) for bar in aspects["bars"]) == 3
    assert resolution_plot(width[3:], height[3:], [512]) is None
    assert aspect_plot(width[3:], height[3:], []) is None


@pytest.mark.parametrize(("sizes", "told"), [([(512, 512), (640, 384)], [512]), ([(64, 64)], [64])])
def test_the_training_resolution_is_seen_in_the_buckets(
    sizes: list[tuple[int, int]], told: list[int]
) -> None:
    rows = table(*({"bucket_width": wide, "bucket_height": tall} for wide, tall in sizes))
    assert training_resolutions(rows) == told
