import base64
import io
import re
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from tasks.imaging.grid import resized_size, tile_grid
from tasks.report.build import MAX_REJECTS, build_report
from tasks.report.inputs import ROW_COLUMNS
from tasks.report.sources import MAX_DRAWN
from tasks.report.thumbnails import make_thumbnail
from tests.tasks.report import example
from tests.tasks.report.page import Element, read_page, rectangles

PHOTOS = Path(__file__).parents[3] / "deployments" / "demo" / "photos"
META: dict[str, Any] = {"name": "demo", "version": 1, "settings": {"resolution": "256"}}


def report(tables: dict[str, pa.Table], **options: Any) -> str:
    arguments: dict[str, Any] = {
        "counts": example.COUNTS,
        "meta": META,
        "load_thumbnail": lambda path: None,
    }
    return build_report(**{**tables, **arguments, **options})


def photo_tables(
    names: tuple[str, ...] = ("rocky-shore", "pink-tulips"),
) -> tuple[dict[str, pa.Table], list[dict[str, Any]]]:
    views, rows, scan = [], [], []
    for name in names:
        path = PHOTOS / f"{name}.jpg"
        found = example.measured("photos", path, threshold=0.12)
        scan.append(example.scanned("photos", path))
        size = (scan[-1]["width"], scan[-1]["height"])
        prompts = path.with_suffix(".txt").read_text().splitlines()
        rows += example.samples(found, size, prompts, "sidecar")
        views += found
    return example.tables(views, rows, scan), views


def invented(
    count: int, size: tuple[int, int] = (1024, 768), **options: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Views, rows and scan of sources that no file stands behind."""
    shapes = example.views_of(*size, **options)
    views, rows, scan = [], [], []
    for number in range(count):
        concept, path = f"concept {number % 2}", f"folder/image-{number:05}.jpg"
        source = number.to_bytes(16, "big")
        found = [example.view_row(concept, path, source, shape) for shape in shapes]
        views += found
        rows += example.samples(found, size, [f"prompt {number}"], "sidecar")
        scan.append(
            {"concept": concept, "path": path, "width": size[0], "height": size[1],
             "format": "JPEG", "mode": "RGB"}
        )  # fmt: skip
    return views, rows, scan


def cards(page: Element) -> dict[str, Element]:
    return {card.all("h4")[0].text(): card for card in page.all("article", class_="source")}


def test_grid_rectangles_equal_the_measured_views() -> None:
    tables, views = photo_tables()
    html = report(tables, load_thumbnail=lambda path: make_thumbnail(Path(path).read_bytes()))
    assert any(view["dropped_reason"] for view in views)
    for path, card in cards(read_page(html)).items():
        mine = [view for view in views if view["path"] == path]
        drawn = {figure.all("b")[0].text(): figure for figure in card.all("figure")}
        assert set(drawn) == {"full frame", "detail ×2", "context"}
        for label, kind in (
            ("full frame", "full"),
            ("detail ×2", "detail"),
            ("context", "context"),
        ):
            shown = drawn[label].all("svg")[0]
            for letters, dropped in (("kf", False), ("d", True)):
                wanted = [
                    (view["left"], view["top"], view["width"], view["height"])
                    for view in mine
                    if view["kind"] == kind and bool(view["dropped_reason"]) == dropped
                ]
                assert rectangles(shown, letters) == wanted
        detail = next(view for view in mine if view["kind"] == "detail")
        box = drawn["detail ×2"].all("svg")[0].attributes["viewbox"]
        assert box == f"0 0 {detail['resized_width']} {detail['resized_height']}"


def test_dropped_tiles_say_why_with_their_numbers() -> None:
    tables, views = photo_tables()
    html = report(tables)
    dropped = [view for view in views if view["dropped_reason"]]
    page = read_page(html)
    titles = [rect.text() for rect in page.all("rect", class_="d")]
    assert len(titles) == len(dropped)
    for title, view in zip(
        sorted(titles), sorted(dropped, key=lambda v: v["luma_std"]), strict=True
    ):
        assert view["dropped_reason"] in title
        assert f"luma std {view['luma_std']:.4f}" in title
        assert f"at {view['left']},{view['top']}" in title


def test_previews_are_jpegs_of_at_most_320_pixels() -> None:
    tables, _ = photo_tables()
    html = report(tables, load_thumbnail=lambda path: make_thumbnail(Path(path).read_bytes()))
    images = read_page(html).all("image")
    assert len(images) == 2
    for image in images:
        kind, data = image.attributes["href"].split(",", 1)
        assert kind == "data:image/jpeg;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) == 320


def test_summary_and_stages_equal_the_input() -> None:
    tables, views = photo_tables()
    rejects = [example.reject("photos/broken.jpg", "the file is empty (0 bytes)")]
    tables["rejects"] = example.tables([], [], [], rejects)["rejects"]
    page = read_page(report(tables))
    numbers = {card.all("span")[0].text(): card.all("b")[0].text() for card in page.all("div") if
               card.attributes.get("class", "").startswith("number")}  # fmt: skip
    kept = [view for view in views if not view["dropped_reason"]]
    detail = sum(view["kind"] == "detail" for view in kept)
    assert numbers["readable image files in 1 concept"] == "2"
    assert numbers["samples"] == str(len(kept))
    assert numbers[f"detail, {detail / len(kept):.1%} of the steps"] == str(detail)
    assert numbers["tiles dropped"] == str(len(views) - len(kept))
    assert numbers["rejected"] == "1"
    assert numbers["without a caption"] == "0"
    table = page.all("table")[0]
    for row, (name, counts) in zip(table.all("tr")[1:], example.COUNTS.items(), strict=True):
        cells = [cell.text() for cell in row.all("td")]
        assert cells[0] == name
        assert cells[1:8] == [str(counts[column.text()]) for column in table.all("th")[1:8]]
        assert ("upper bound" in cells[8]) == (not counts["exact"])


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}</title></svg>\u202e'


def test_names_prompts_and_reasons_stay_text() -> None:
    views, rows, scan = invented(1)
    for record in (*views, *rows, *scan):
        record["path"] = record["concept"] = HOSTILE
    for row in rows:
        row["prompts"] = [HOSTILE]
    views[-1]["dropped_reason"] = HOSTILE
    counts = {HOSTILE: {**example.COUNTS["scan"], "reasons": {HOSTILE: HOSTILE}}}
    rejects = [example.reject(HOSTILE, HOSTILE, stage=HOSTILE)]
    meta = {"name": HOSTILE, "version": HOSTILE, "settings": {HOSTILE: HOSTILE}, HOSTILE: HOSTILE}
    html = report(example.tables(views, rows, scan, rejects), counts=counts, meta=meta)
    page = read_page(html)
    assert not page.all("script") and not page.all("img")
    assert "<script" not in html and "{{ 7*7 }}" in html
    assert list(cards(page)) == [HOSTILE]
    assert page.all("li")[0].text() == HOSTILE
    handlers = re.findall(r"<[a-z][^<>]*\son\w+=", html)
    assert handlers == []


def test_nothing_is_loaded_from_elsewhere() -> None:
    tables, _ = photo_tables()
    html = report(tables, load_thumbnail=lambda path: make_thumbnail(Path(path).read_bytes()))
    assert not re.search(r"https?:|url\(|@import|<link|<script|<iframe", html)
    page = read_page(html)
    for tag, name in (("image", "href"), ("use", "href"), ("a", "href")):
        for element in page.all(tag):
            assert element.attributes[name].startswith(("data:image/jpeg;base64,", "#"))
    (policy,) = (meta.attributes["content"] for meta in page.all("meta") if "http-equiv" in
                 meta.attributes)  # fmt: skip
    assert "default-src 'none'" in policy and "img-src data:" in policy


def test_links_and_previews_point_at_something() -> None:
    tables, _ = photo_tables()
    html = report(tables, load_thumbnail=lambda path: make_thumbnail(Path(path).read_bytes()))
    names = re.findall(r'\sid="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(names)


def test_thousands_of_sources_stay_within_the_size_and_all_appear() -> None:
    views, rows, scan = invented(5000, scales=(), context=False)
    preview = make_thumbnail((PHOTOS / "pink-tulips.jpg").read_bytes())
    asked: list[str] = []

    def load(path: str) -> bytes | None:
        asked.append(path)
        return preview

    tables = example.tables(views, rows, scan)
    start = time.perf_counter()
    html = report(tables, load_thumbnail=load, max_bytes=3_000_000)
    assert time.perf_counter() - start < 20
    assert 2_500_000 < len(html.encode()) <= 3_000_000
    page = read_page(html)
    shown = cards(page)
    assert 50 < len(shown) < 5000 and len(asked) <= len(shown) + 1
    listed = [row.all("td")[0].text() for box in page.all("details", class_="box")
              for row in box.all("tr")[1:]]  # fmt: skip
    assert sorted([*shown, *listed]) == sorted(source["path"] for source in scan)
    assert f"{len(shown):,} of 5,000 sources are shown with pictures" in html
    # Both concepts have their share of the pictures.
    sections = [len(section.all("article")) for section in page.all("section")[1:]]
    assert len(sections) == 2 and abs(sections[0] - sections[1]) <= 1


def test_sources_beyond_the_size_are_counted() -> None:
    views, rows, scan = invented(300, scales=())
    html = report(example.tables(views, rows, scan), max_bytes=40_000)
    assert len(html.encode()) <= 40_000
    missing = sum(int(n) for n in re.findall(r"(\d+) further sources are not listed here", html))
    page = read_page(html)
    lines = sum(len(box.all("tr")) - 1 for box in page.all("details", class_="box")
                if "more sources" in box.text())  # fmt: skip
    assert missing > 0 and missing + lines + len(cards(page)) == 300


def test_one_huge_source_is_capped_and_says_so() -> None:
    size = (40_000, 30_000)
    views, rows, scan = invented(1, size, scales=(40.0,))
    tiles = tile_grid(*resized_size(*size, 40 * example.RESOLUTION), example.RESOLUTION, 32)
    views[-1]["dropped_reason"] = "blank"  # a context tile
    detail = [view for view in views if view["kind"] == "detail"]
    detail[-1]["dropped_reason"] = "blank"
    page = read_page(report(example.tables(views, rows, scan)))
    figure = next(f for f in page.all("figure") if f.all("b")[0].text() == "detail ×40")
    assert len(tiles) > MAX_DRAWN
    assert len(rectangles(figure.all("svg")[0])) == MAX_DRAWN
    assert len(rectangles(figure.all("svg")[0], "d")) == 1
    assert f"{len(tiles) - MAX_DRAWN:,} further rectangles are not drawn" in figure.text()


def test_an_empty_dataset_has_a_report() -> None:
    page = read_page(report(example.tables([], [], []), counts={}))
    assert "No samples." in page.text() and "None: every file could be read." in page.text()


def test_a_scale_without_tiles_says_why() -> None:
    views, rows, scan = invented(1)
    blank = dict.fromkeys(views[0])
    why = "the short side of 128 px is below the tile's 256 px"
    views.append({**blank, "concept": "concept 0", "path": scan[0]["path"], "kind": "detail",
                  "scale": 0.5, "dropped_reason": why})  # fmt: skip
    page = read_page(report(example.tables(views, rows, scan)))
    figure = page.all("figure")[-1]
    assert figure.text() == f"detail ×0.5 no tiles: {why}"
    assert not figure.all("svg")
    scales = {row.all("td")[0].text(): row.all("td")[-1].text()
              for row in page.all("table")[1].all("tr")[1:]}  # fmt: skip
    assert scales == {"full": "0", "detail ×0.5": "1", "detail ×2": "0", "context": "0"}


def test_sources_without_samples_are_explained() -> None:
    _, _, scan = invented(3)
    scan[2]["note"] = "the same bytes as folder/image-00000.jpg: merged with it"
    tables = example.tables([], [], scan, [example.reject(scan[0]["path"], "damaged", "crops")])
    notes = pa.array([source.get("note") for source in scan], pa.string())
    tables["scan"] = tables["scan"].append_column("note", notes)
    shown = cards(read_page(report(tables)))
    assert "rejected in crops: damaged" in shown[scan[0]["path"]].text()
    assert "no samples" in shown[scan[1]["path"]].text()
    assert "the same bytes as folder/image-00000.jpg" in shown[scan[2]["path"]].text()


def test_prompts_show_their_origin_and_missing_ones_are_listed() -> None:
    views, rows, scan = invented(2, context=False)
    for row in rows:
        if row["path"] == scan[1]["path"]:
            row["prompts"], row["prompt_origin"] = [], "none"
    rows[1]["prompts"], rows[1]["prompt_origin"] = ["a caption of its own"], "generated"
    page = read_page(report(example.tables(views, rows, scan)))
    shown = cards(page)[scan[0]["path"]].all("div", class_="prompt")
    tiles = sum(row["path"] == scan[0]["path"] for row in rows) - 1
    assert shown[0].text() == f"1 full · sidecar {tiles - 1} detail · inherited prompt 0"
    assert shown[1].text() == "1 detail · generated a caption of its own"
    assert "no prompt text" in cards(page)[scan[1]["path"]].text()
    listed = next(table for table in page.all("table") if table.all("th")[0].text() == "concept")
    assert [cell.text() for cell in listed.all("td")] == ["concept 1", scan[1]["path"]]


def test_many_rejects_are_capped_and_counted() -> None:
    rejects = [example.reject(f"bad-{number}.jpg", "damaged") for number in range(MAX_REJECTS + 7)]
    html = report(example.tables([], [], [], rejects))
    assert f"The first {MAX_REJECTS} of {MAX_REJECTS + 7} are listed." in html


def test_a_missing_column_is_named() -> None:
    tables, _ = photo_tables(("pink-tulips",))
    with pytest.raises(ValueError, match=r"rows table lacks the column\(s\) prompt_origin"):
        report({**tables, "rows": tables["rows"].drop_columns(["prompt_origin"])})
    assert set(ROW_COLUMNS) <= set(tables["rows"].column_names)
