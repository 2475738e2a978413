import re
from dataclasses import replace
from typing import Any

import pytest

from tasks.epochs.entries import OrderSettings
from tasks.epochs.outlook import outlook
from tasks.report.build import MAX_LISTED, About, build_report
from tasks.report.inputs import ROW_COLUMNS, Tables
from tests.tasks.report import example
from tests.tasks.report.page import Element, read_page, unpack

META: dict[str, Any] = {"name": "demo", "version": 1, "settings": {"resolution": "256"}}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}</title></svg>\u202e'


def report(tables: Tables, *, meta: dict[str, Any] = META, **options: Any) -> str:
    about = About(meta=meta, counts=options.pop("counts", example.COUNTS),
                  outlook=options.pop("outlook", None))  # fmt: skip
    return build_report(tables, about, **options)


def numbers(page: Element) -> dict[str, str]:
    """The figures at the head of a page, by what they count."""
    return {
        card.all("span")[0].text(): card.all("b")[0].text()
        for card in page.all("div")
        if card.attributes.get("class", "").startswith("number")
    }


def section(page: Element, name: str) -> Element:
    return page.all("section", id=name)[0]


def test_summary_and_stages_equal_the_input() -> None:
    tables, views, _ = example.photo_tables(("rocky-shore", "pink-tulips"))
    rejects = example.tables([], [], [], [example.reject("photos/broken.jpg", "0 bytes")]).rejects
    page = read_page(report(replace(tables, rejects=rejects)))
    kept = [view for view in views if not view["dropped_reason"]]
    figures = numbers(page)
    assert figures["readable files in 1 concept"] == "2"
    assert figures["samples"] == str(len(kept))
    assert figures["detail tiles"] == str(sum(view["kind"] == "detail" for view in kept))
    assert figures["tiles dropped"] == str(len(views) - len(kept))
    assert figures["rejected file"] == "1"
    assert figures["without a caption"] == "0"
    table = section(page, "made").all("table")[0]
    for row, (name, counts) in zip(table.all("tr")[1:], example.COUNTS.items(), strict=True):
        cells = [cell.text() for cell in row.all("td")]
        assert cells[0] == name
        assert cells[1:8] == [str(counts[column.text()]) for column in table.all("th")[1:8]]
        assert ("upper bound" in cells[8]) == (not counts["exact"])


def test_names_prompts_and_reasons_stay_text() -> None:
    views, rows, scan = example.invented(1)
    for record in (*views, *rows, *scan):
        record["path"] = record["concept"] = HOSTILE
    for row in rows:
        row["prompts"] = [HOSTILE]
        row["source_id"] = scan[0]["source_id"]
    views[1]["dropped_reason"] = HOSTILE
    tables = example.tables(views, rows, scan, [example.reject(HOSTILE, HOSTILE)], rows[:1])
    parent = {"version": 1, "settings": {HOSTILE: 1}}
    meta = {"name": HOSTILE, "version": 1, "settings": {HOSTILE: HOSTILE}, "parent": parent}
    html = report(tables, meta=meta, counts={"scan": {"reasons": {HOSTILE: 1}}})
    page = read_page(html)
    assert len(page.all("script")) == 4  # facts, one part of grids and pictures, the script
    assert not page.all("img") and "<script>alert" not in html
    assert "49" not in page.all("h1")[0].text()
    assert "\u202e" not in html
    (source,) = unpack(html)
    assert source["path"] == source["concept"] == HOSTILE
    assert source["prompts"][0][0] == [HOSTILE]


def test_the_page_asks_for_nothing() -> None:
    tables, _, pictures = example.photo_tables(("pink-tulips",))
    html = report(tables, thumbnails=pictures)
    page = read_page(html)
    for name in ("link", "iframe", "object", "base", "form"):
        assert all("action" not in found.attributes for found in page.all(name))
    assert not page.all("link") and not re.search(r"https?://(?!www\.w3\.org)", html)
    (policy,) = (
        meta.attributes["content"]
        for meta in page.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not re.search(r"\son\w+=|\sstyle=", html.split("<script")[0])


def test_links_point_at_something() -> None:
    tables, _, _ = example.photo_tables(("pink-tulips",))
    html = report(tables).split("<script")[0]
    names = re.findall(r'\sid="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(names)
    assert set(re.findall(r'href="([^"]+)"', html)) == {
        f"#{name}" for name in re.findall(r'href="#([^"]+)"', html)
    }


def test_an_empty_dataset_has_a_report() -> None:
    html = report(example.tables([], [], []), counts={})
    assert "No samples." in html and "No file was rejected" in html
    assert unpack(html) == []


def test_a_scale_without_tiles_says_why() -> None:
    views, rows, scan = example.invented(1)
    why = "the short side of 128 px is below the tile's 256 px"
    views.append({**dict.fromkeys(views[0]), "concept": "concept 0", "path": scan[0]["path"],
                  "kind": "detail", "scale": 0.5, "dropped_reason": why})  # fmt: skip
    html = report(example.tables(views, rows, scan))
    assert unpack(html)[0]["without"] == [["detail", 0.5, why]]
    rows_ = section(read_page(html), "concepts").all("table")[1].all("tr")[1:]
    told = {row.all("td")[0].text(): row.all("td")[-1].text() for row in rows_}
    assert told == {"full": "0", "detail ×0.5": "1", "detail ×2": "0", "context": "0"}


def test_rejected_files_are_sources_with_their_reason() -> None:
    _, _, scan = example.invented(2)
    rejects = [
        example.reject(scan[0]["path"], "damaged", "crops"),
        example.reject("x.jpg", "empty"),
    ]
    html = report(example.tables([], [], scan, rejects))
    notes = {source["path"]: source["notes"] for source in unpack(html)}
    assert notes == {
        scan[0]["path"]: ["rejected in crops: damaged"],
        scan[1]["path"]: ["no samples"],
        "x.jpg": ["rejected in scan: empty"],
    }
    assert [source["path"] for source in unpack(html)][-1] == "x.jpg"
    lines = section(read_page(html), "rejects").all("table")[0].all("tr")[1:]
    cells = [[cell.text() for cell in line.all("td")] for line in lines]
    assert cells[1] == ["scan", "x.jpg", "empty", "2026-11-23T08:00:00Z", "1"]
    assert numbers(read_page(html))["readable files in 2 concepts"] == "2"


def test_many_rejects_are_capped_and_counted() -> None:
    rejects = [example.reject(f"bad-{number}.jpg", "damaged") for number in range(MAX_LISTED + 7)]
    html = report(example.tables([], [], [], rejects))
    assert f"The first {MAX_LISTED} of {MAX_LISTED + 7} are listed" in html
    assert len(unpack(html)) == MAX_LISTED + 7


def test_missing_captions_are_listed() -> None:
    views, rows, scan = example.invented(2, context=False)
    for row in rows:
        if row["path"] == scan[1]["path"]:
            row.update(prompts=[""], context="", prompt_origin="none")
        elif row["kind"] != "full":
            # Its concept asks for the empty prompt: the source has a caption all the same.
            row.update(prompts=[""], prompt_origin="none")
    page = read_page(report(example.tables(views, rows, scan)))
    assert numbers(page)["without a caption"] == "1"
    listed = section(page, "rejects").all("details")[0].all("li")
    assert [line.text() for line in listed] == [f"{scan[1]['path']} concept 1"]


def test_epochs_say_what_they_drop_and_for_which_training() -> None:
    _, rows, scan = example.invented(3, context=False)
    tables = example.tables([], rows, scan)
    settings = OrderSettings(
        content_digest="x", seed=0, batch_size=4, step_size=2, remainder="drop"
    )
    record = outlook(tables.rows, settings, epochs=2)
    part = section(read_page(report(tables, outlook=record)), "epochs")
    cells = [cell.text() for cell in part.all("tr")[1].all("td")]
    steps, dropped = record.epochs[0].steps, sum(record.epochs[0].dropped.values())
    assert cells[0] == "1–2" if record.epochs[0].dropped == record.epochs[1].dropped else "1"
    assert cells[1:4] == [str(steps), str(len(rows)), str(dropped)]
    told = " ".join(f"{bucket.replace('x', '×')}: {number} dropped"
                    for bucket, number in sorted(record.epochs[0].dropped.items()))  # fmt: skip
    assert dropped > 0 and cells[5] == told
    assert "batch_size = 4" in part.text() and "2 micro-batches per step" in part.text()
    shares = [f"{kind.kind} {kind.share:.1%}" for kind in record.kinds]
    assert all(share in part.text() for share in shares)
    if record.unseen:
        assert "Never trained in the epochs above" in part.text()


def test_changes_and_settings_are_told() -> None:
    views, rows, scan = example.invented(3, context=False)
    old = [row for row in rows if row["path"] != scan[0]["path"]]
    old = [row | ({"prompts": ["was"]} if row["path"] == scan[1]["path"] else {}) for row in old]
    tables = example.tables(views, rows, scan, previous=old)
    parent = {"version": 6, "settings": {"data": {"resolution": "128"}}}
    meta = META | {"version": 7, "parent": parent, "settings": {"data": {"resolution": "256"}}}
    part = section(read_page(report(tables, meta=meta)), "changes")
    pills = {pill.all("summary")[0].text(): pill.all("li") for pill in part.all("details")}
    assert set(pills) == {"1 added", "1 re-prompted"}
    assert pills["1 added"][0].text() == f"{scan[0]['path']} concept 0"
    assert [cell.text() for cell in part.all("td")] == ["data.resolution", '"128"', '"256"']


def test_buckets_sizes_and_shapes_are_drawn() -> None:
    tables, _, _ = example.photo_tables(("rocky-shore", "pink-tulips"))
    about = About(meta=META, buckets=[(320, 192), (256, 256), (192, 320)])
    part = section(read_page(build_report(tables, about)), "shapes")
    bars, sizes, aspects = part.all("svg")
    total = sum(int(rect.text().split(": ")[1].split()[0]) for rect in bars.all("rect"))
    assert total == tables.rows.num_rows
    assert len(sizes.all("circle")) == 2  # 500 x 500 and 400 x 500
    assert len(aspects.all("path", class_="border")) == 2
    assert len(aspects.all("rect", class_="bar")) == 2


def test_a_missing_column_is_named() -> None:
    tables, _, _ = example.photo_tables(("pink-tulips",))
    without = tables.rows.drop_columns(["prompt_origin"])
    with pytest.raises(ValueError, match=r"rows table lacks the column\(s\) prompt_origin"):
        report(replace(tables, rows=without))
    assert set(ROW_COLUMNS) <= set(tables.rows.column_names)
