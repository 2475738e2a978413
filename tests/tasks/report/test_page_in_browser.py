"""The report in a real Chromium: what its script makes of the data, and what it must never do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.report.build import About, build_report
from tests.tasks.report import example
from tests.tasks.report.browser import Browser, browser, program

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Chromium here")

HOSTILE = (
    '</script><script>window.hit = 1</script><img src="x" onerror="window.hit = 2">\u202e&amp;'
)
PATHS = "[...document.querySelectorAll('#list article h3')].map(e => e.title)"
COUNT = "document.getElementById('count').textContent"
TIP = "document.getElementById('tip')"
TOLD = f"!{TIP}.hidden && {TIP}.textContent"
NUM_SOURCES = 53


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as tab:
        yield tab


def open_report(tab: Browser, folder: Path, tables: Any, **options: Any) -> None:
    meta = {"name": "demo", "version": 2, "parent": {"version": 1, "settings": {}}}
    page = folder / "report.html"
    page.write_text(build_report(tables, About(meta=meta), **options))
    tab.messages.clear()
    tab.open(page)


def choose(tab: Browser, name: str, value: str) -> None:
    """Sets a control as a person does, and waits for the list."""
    tab.run(f"document.getElementById('{name}').value = {value!r}")
    kind = "input" if name == "query" else "change"
    tab.run(f"document.getElementById('{name}').dispatchEvent(new Event('{kind}'))")
    tab.run("new Promise(done => setTimeout(done, 250))")
    tab.wait("document.getElementById('list').getAttribute('aria-busy') === 'false'")


@pytest.fixture(scope="module")
def many(tab: Browser, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A page of 53 sources, of which each is something special."""
    views, rows, scan = example.invented(NUM_SOURCES, context=False)
    per_source = len(views) // NUM_SOURCES
    views[1]["dropped_reason"] = "blank: luma std 0.0010 < blank_std_threshold 0.004"
    for row in rows[7 * per_source : 8 * per_source]:
        row.update(prompts=[""], context="", prompt_origin="none")
    rows[-1] |= {"prompts": ["a caption of its own"], "prompt_origin": "edited"}
    rejects = [example.reject("folder/broken.jpg", "truncated")]
    previous = [row for row in rows if row["path"] != scan[4]["path"]]
    tables = example.tables(views, rows, scan, rejects, previous)
    open_report(tab, tmp_path_factory.mktemp("many"), tables)
    return tab


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    """Controls as they were at first."""
    if "many" in request.fixturenames:
        tab = request.getfixturevalue("many")
        tab.run("document.getElementById('tools').reset()")
        choose(tab, "query", "")


def test_a_page_of_sources_is_drawn_without_trouble(tab: Browser, tmp_path: Path) -> None:
    tables, views, pictures = example.photo_tables(("rocky-shore", "pink-tulips"))
    open_report(tab, tmp_path, tables, thumbnails=pictures)
    assert tab.run(PATHS) == sorted({view["path"] for view in views})
    for path in tab.run(PATHS):
        mine = [view for view in views if view["path"] == path]
        cards = "[...document.querySelectorAll('#list article')]"
        card = f"{cards}.find(card => card.querySelector('h3').title === {path!r})"
        for kind in ("full", "detail", "context"):
            shown = f"{card}.querySelector('figure.{kind}')"
            for letter, dropped in (("f" if kind == "full" else "k", False), ("d", True)):
                wanted = {
                    f"M{v['left']} {v['top']}h{v['width']}v{v['height']}h-{v['width']}z"
                    for v in mine
                    if v["kind"] == kind and bool(v["dropped_reason"]) == dropped
                }
                drawn = tab.run(f"{shown}.querySelector('path.{letter}')?.getAttribute('d') ?? ''")
                assert {part + "z" for part in drawn.split("z") if part} == wanted
        assert tab.run(f"{card}.querySelector('image').href.baseVal.slice(0, 23)") == (
            "data:image/jpeg;base64,"
        )
        assert tab.run(f"{card}.querySelector('svg').getAttribute('aria-label')").endswith(
            f"{mine[0]['bucket_width']}×{mine[0]['bucket_height']}"
        )
    assert tab.run("[...document.images].length") == 0
    assert tab.troubles() == []
    assert all(url.startswith(("data:", "file:")) for url in tab.requests())


def test_nothing_of_a_user_becomes_markup(tab: Browser, tmp_path: Path) -> None:
    views, rows, scan = example.invented(1, context=False)
    for record in (*views, *rows, *scan):
        record["path"] = record["concept"] = HOSTILE
    for row in rows:
        row.update(prompts=[HOSTILE, "{{ 7*7 }}"], prompt_origin=HOSTILE, context=HOSTILE)
        row["source_id"] = scan[0]["source_id"]
    rows[1]["prompts"] = [HOSTILE + "2"]
    views[2]["dropped_reason"] = HOSTILE
    open_report(tab, tmp_path, example.tables(views, rows, scan, [example.reject("x", HOSTILE)]))
    shown = HOSTILE.replace("\u202e", "\ufffd")
    assert tab.run(PATHS)[0] == shown
    assert tab.run("document.querySelector('#list article .prompts li').textContent") == shown
    assert tab.run("document.querySelector('#concept').options[1].textContent").startswith(
        shown[:70]
    )
    tab.run("document.querySelector('#list figure.detail svg').focus()")
    for _ in views:
        tab.press("ArrowRight")
    tab.run("document.querySelectorAll('#list details').forEach(e => { e.open = true; })")
    tab.run("new Promise(done => setTimeout(done, 300))")
    assert tab.run("window.hit") is None
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert tab.run("document.querySelectorAll('script:not([type])').length") == 1
    assert tab.troubles() == []


def test_the_policy_refuses_injected_scripts_and_requests(tab: Browser, tmp_path: Path) -> None:
    open_report(tab, tmp_path, example.tables(*example.invented(1)))
    tab.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 3\">')"
    )
    tab.run("window.injected = document.createElement('script'); injected.text = 'hit = 4'; 0")
    tab.run("document.body.append(injected)")
    refused = "fetch('https://example.org/').then(() => 'sent', () => 'refused')"
    assert tab.run(refused) == "refused"
    assert tab.run("window.hit") is None
    assert any("Content Security Policy" in str(message) for message in tab.troubles())


def test_pages_turn_by_button_key_and_number(many: Browser) -> None:
    first = many.run(PATHS)
    assert len(first) == 20
    assert many.run(COUNT) == f"{NUM_SOURCES + 1} sources"
    many.run("document.querySelector('#pages [aria-label=\"next page\"]').click()")
    many.wait(f"{PATHS}[0] !== {first[0]!r}")
    second = many.run(PATHS)
    assert not set(first) & set(second)
    many.press("ArrowRight")
    many.wait(f"{PATHS}[0] !== {second[0]!r}")
    third = many.run(PATHS)
    assert len(third) == NUM_SOURCES + 1 - 40
    many.press("ArrowRight")  # there is no fourth page
    many.press("ArrowLeft")
    many.wait(f"{PATHS}[0] === {second[0]!r}")
    many.run("document.querySelector('#pages input').value = 1")
    many.run("document.querySelector('#pages input').dispatchEvent(new Event('change'))")
    many.wait(f"{PATHS}[0] === {first[0]!r}")
    assert sorted([*first, *second, *third]) == sorted(
        [f"folder/image-{n:05}.jpg" for n in range(NUM_SOURCES)] + ["folder/broken.jpg"]
    )


@pytest.mark.parametrize(
    ("control", "value", "found"),
    [
        ("query", "IMAGE-00017", [17]),
        ("query", "PROMPT 51", [51]),
        ("query", "00052 own", [52]),
        ("query", "nothing like it", []),
        ("mark", "dropped", [0]),
        ("mark", "uncaptioned", [7]),
        ("mark", "added", [4]),
        ("mark", "own", [52]),
        ("concept", "concept 1", [n for n in range(NUM_SOURCES) if n % 2]),
    ],
)
def test_search_and_filters_find(many: Browser, control: str, value: str, found: list[int]) -> None:
    if control == "mark":
        value = many.run(f"document.querySelector('#mark [data-name={value}]').value")
    if control == "concept":
        value = many.run(
            f"[...document.querySelector('#concept').options].find(o => o.text === {value!r}).value"
        )
    choose(many, control, str(value))
    assert many.run(PATHS) == [f"folder/image-{n:05}.jpg" for n in found][:20]
    assert many.run(COUNT) == f"{len(found)} of {NUM_SOURCES + 1} sources"


def test_rejected_files_and_changes_can_be_filtered(many: Browser) -> None:
    choose(many, "mark", many.run("document.querySelector('#mark [data-name=rejected]').value"))
    assert many.run(PATHS) == ["folder/broken.jpg"]
    text = many.run("document.querySelector('#list article').textContent")
    assert "rejected in scan: truncated" in text
    option = "[...document.querySelector('#mark').options].find(o => o.text.startsWith('changed'))"
    assert many.run(f"{option}.text") == "changed since version 1 (1)"
    choose(many, "mark", many.run(f"{option}.value"))
    assert many.run(PATHS) == ["folder/image-00004.jpg"]
    assert "added" in many.run("document.querySelector('#list article header').textContent")


def test_sorting_moves_what_has_most_to_the_front(many: Browser) -> None:
    choose(many, "sort", "dropped")
    assert many.run(PATHS)[0] == "folder/image-00000.jpg"
    choose(many, "sort", "samples")
    assert many.run(PATHS)[-1] != "folder/image-00000.jpg"


def test_a_tile_tells_its_verdict_by_pointer_and_key(many: Browser) -> None:
    choose(many, "sort", "dropped")
    svg = "document.querySelector('#list figure.detail svg')"
    many.run(f"{svg}.scrollIntoView({{block: 'center'}})")
    box = many.run(f"(b => [b.left, b.top, b.width, b.height])({svg}.getBoundingClientRect())")
    many.point(box[0] + 4, box[1] + 4)
    tip = many.wait(TOLD)
    assert "dropped: blank: luma std 0.0010 < blank_std_threshold 0.004" in tip
    assert "256×256 at 0, 0" in tip and "luma std 0.1000, edges 5.00 %" in tip
    assert many.run(f"{svg}.querySelector('rect.at').getAttribute('x')") == "0"
    many.point(box[0] + box[2] - 4, box[1] + box[3] - 4)
    many.wait(f"{TIP}.textContent.startsWith('kept')")
    many.point(2, 2)
    many.wait(f"{TIP}.hidden")
    many.run(f"{svg}.focus()")
    before = many.run("document.getElementById('pages').querySelector('input').value")
    many.press("ArrowRight")
    tip = many.wait(TOLD)
    assert tip
    assert many.run("document.getElementById('pages').querySelector('input').value") == before
    many.press("Escape")
    many.wait(f"{TIP}.hidden")
    many.run("document.activeElement.blur()")


def test_an_own_prompt_is_marked_and_told(many: Browser) -> None:
    choose(many, "query", "caption of its own")
    assert many.run("document.querySelectorAll('#list path.o').length") == 1
    svg = "document.querySelector('#list figure.detail svg')"
    many.run(f"{svg}.focus()")
    many.press("ArrowLeft")  # around to the last tile
    many.wait(f"{TIP}.textContent.includes('own prompt: a caption of its own')")
    many.run("document.activeElement.blur()")


def test_the_gallery_opens_a_card(many: Browser) -> None:
    choose(many, "view", "gallery")
    assert many.run("document.querySelectorAll('#list button').length") == NUM_SOURCES + 1
    many.run("document.querySelector('#list button').click()")
    many.wait("document.getElementById('dialog').open")
    assert many.run("document.querySelector('#dialog h3').title") == "folder/image-00000.jpg"
    many.run("document.querySelector('#dialog .close').click()")
    many.wait("!document.getElementById('dialog').open")


def test_grids_of_several_epochs_can_be_chosen(tab: Browser, tmp_path: Path) -> None:
    views, rows, scan = example.invented(1, context=False)
    tiles = [view | {"phase": 0, "num_phases": 2} for view in views if view["kind"] == "detail"]
    moved = [view | {"phase": 1, "left": view["left"] // 2} for view in tiles]
    open_report(tab, tmp_path, example.tables([views[0], *tiles, *moved], rows, scan))
    select = "document.querySelector('figure.detail select')"
    assert tab.run(f"[...{select}.options].map(o => o.text)") == ["grid 1 of 2", "grid 2 of 2"]
    path = "document.querySelector('figure.detail path.k').getAttribute('d')"
    before = tab.run(path)
    tab.run(f"{{ {select}.value = 1; {select}.dispatchEvent(new Event('change')); }}")
    tab.wait(f"{path} !== {before!r}")
    assert tab.run(f"document.activeElement === {select}")
    assert tab.troubles() == []


def test_without_script_the_summary_is_there(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(
        build_report(example.tables(*example.invented(3)), About(meta={"name": "demo"}))
    )
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.load(page)
        root = tab.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        text = tab.call("DOM.getOuterHTML", nodeId=root)["outerHTML"].split("<script", 1)[0]
        assert "The sources need JavaScript" in text and "3 sources" in text
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
