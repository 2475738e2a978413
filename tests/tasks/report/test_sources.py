"""What a page carries of its sources, unpacked as its script does."""

import io
import json
from typing import Any

import pytest
from PIL import Image

from tasks.report.build import About, build_report
from tasks.report.inputs import Tables
from tests.tasks.report import example
from tests.tasks.report.page import unpack


def report(tables: Tables, **options: Any) -> str:
    return build_report(tables, About(meta={"name": "demo"}), **options)


def test_grids_equal_the_measured_views() -> None:
    tables, views, pictures = example.photo_tables(("rocky-shore", "pink-tulips"))
    assert any(view["dropped_reason"] for view in views)
    for source in unpack(report(tables, thumbnails=pictures)):
        mine = [view for view in views if view["path"] == source["path"]]
        assert [grid["kind"] for grid in source["grids"]] == ["full", "detail", "context"]
        shown = [
            (grid["kind"], *tile["place"], *grid["size"], tile["reason"])
            for grid in source["grids"]
            for tile in grid["tiles"]
        ]
        names = ("kind", "left", "top", "width", "height", "dropped_reason")
        assert sorted(shown, key=str) == sorted(
            (tuple(view[n] for n in names) for view in mine), key=str
        )
        canvases = {grid["kind"]: grid["canvas"] for grid in source["grids"]}
        detail = next(view for view in mine if view["kind"] == "detail")
        assert canvases["full"] == (source["width"], source["height"])
        assert canvases["detail"] == (detail["resized_width"], detail["resized_height"])
        assert source["kept"] + source["dropped"] == len(mine) - 1
        dropped = [view for view in mine if view["dropped_reason"]]
        told = [tile for grid in source["grids"] for tile in grid["tiles"] if tile["reason"]]
        assert sorted(tile["std"] for tile in told) == pytest.approx(
            sorted(view["luma_std"] for view in dropped), abs=1e-4
        )


def test_pictures_are_those_given() -> None:
    tables, _, pictures = example.photo_tables(("rocky-shore", "pink-tulips"))
    found = unpack(report(tables, thumbnails=pictures))
    assert {source["picture"] for source in found} == set(pictures.values())
    assert max(Image.open(io.BytesIO(found[0]["picture"])).size) == 256


def test_the_page_keeps_its_size_and_the_facts_of_every_source() -> None:
    _, _, pictures = example.photo_tables(("pink-tulips",))
    (jpeg,) = pictures.values()
    views, rows, scan = example.invented(400, scales=(2.0, 3.0))
    thumbnails = {row["source_id"]: jpeg for row in scan}
    tables = example.tables(views, rows, scan)
    sizes = {}
    for max_bytes in (10_000_000, 1_000_000, 400_000, 120_000, 70_000):
        html = report(tables, thumbnails=thumbnails, max_bytes=max_bytes)
        assert len(html.encode()) <= max_bytes
        found = unpack(html)
        assert [source["path"] for source in found] == [row["path"] for row in _in_order(scan)]
        assert all(source["samples"] == len(views) // 400 for source in found)
        sizes[max_bytes] = [len(source["picture"]) for source in found]
        without = sum(source["grids"] is None for source in found)
        pictured = sum(map(bool, sizes[max_bytes]))
        cut = pictured < 400 or without > 0
        assert ("A report holds at most" in html) == cut
        assert (f"{pictured:,} of 400 sources have a picture" in html) == cut
        assert (f"{without:,} have no tile grids" in html) == (without > 0)
    assert set(sizes[10_000_000]) == {len(jpeg)}
    assert 0 < max(sizes[400_000]) < max(sizes[1_000_000]) < len(jpeg)
    # Where not all have a picture, the concepts have them in turns.
    few = [bool(size) for size in sizes[120_000]]
    assert 0 < sum(few) < 400 and abs(sum(few[:200]) - sum(few[200:])) <= 1


def _in_order(scan: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(scan, key=lambda row: (row["concept"], row["path"]))


def test_augmentation_and_variations_reach_the_tiles() -> None:
    views, rows, scan = example.invented(1, context=False)
    values = [{"flip": True, "rotate": -3.123456789}, None]
    varied = [
        {**view, "variation": number, "augmentation": one and json.dumps(one)}
        for view in views
        for number, one in enumerate(values)
    ]
    (source,) = unpack(report(example.tables(varied, rows, scan)))
    for tile in (tile for grid in source["grids"] for tile in grid["tiles"]):
        assert tile["variations"] == 2
        assert [text and json.loads(text) for text in tile["values"]] == [
            {"flip": True, "rotate": -3.123}, None
        ]  # fmt: skip


def test_grid_phases_are_grids_of_their_own() -> None:
    views, rows, scan = example.invented(1, context=False)
    tiles = [view for view in views if view["kind"] == "detail"]
    moved = [view | {"phase": 1, "num_phases": 2, "left": view["left"] // 2} for view in tiles]
    first = [view | {"phase": 0, "num_phases": 2} for view in tiles]
    (source,) = unpack(report(example.tables([views[0], *first, *moved], rows, scan)))
    assert [(grid["kind"], grid["phase"]) for grid in source["grids"]] == [
        ("full", -1), ("detail", 0), ("detail", 1)
    ]  # fmt: skip
    assert len(source["grids"][2]["tiles"]) == len({(v["left"], v["top"]) for v in moved})
    # The same tiles in two grids are as many tiles as they are different.
    assert source["kept"] == len({view["key"] for view in tiles})


def test_a_tile_with_a_prompt_of_its_own_says_so() -> None:
    views, rows, scan = example.invented(1, context=False)
    rows[1] |= {"prompts": ["a caption of its own"], "prompt_origin": "edited"}
    (source,) = unpack(report(example.tables(views, rows, scan)))
    own = [tile for grid in source["grids"] for tile in grid["tiles"] if tile["own"]]
    assert [(tile["place"], tile["own"]) for tile in own] == [
        ((rows[1]["left"], rows[1]["top"]), ["a caption of its own"])
    ]
    assert source["prompts"] == [
        (["prompt 0"], "full", "sidecar", 1),
        (["prompt 0"], "detail", "inherited", len(rows) - 2),
        (["a caption of its own"], "detail", "edited", 1),
    ]


@pytest.mark.parametrize(
    ("format_", "frames", "note"),
    [
        ("GIF", 12, "animated: 12 frames, the first one is used"),
        ("TIFF", 5, "5 pages, the first one is used"),
        ("MPO", 2, None),
        ("WEBP", 1, None),
    ],
)
def test_animated_files_say_that_the_first_frame_counts(
    format_: str, frames: int, note: str | None
) -> None:
    views, rows, scan = example.invented(1)
    scan[0] |= {"format": format_, "frames": frames}
    (source,) = unpack(report(example.tables(views, rows, scan)))
    assert source["notes"] == ([note] if note else [])


def test_equal_files_are_told_as_one_source() -> None:
    views, rows, scan = example.invented(1)
    copy = scan[0] | {"path": "folder/copy.jpg"}
    found = {s["path"]: s for s in unpack(report(example.tables(views, rows, [*scan, copy])))}
    first, other = sorted(found)
    assert found[other]["notes"] == [f"the same bytes as {first}: both are one source"]
    assert found["folder/copy.jpg"]["samples"] == 0
