"""The page of captions in a real Chromium: what its script does, and what it must never do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.captions.sheet import Sheet, html_sheet
from tests.tasks.captions.sheets import HOSTILE, card, hostile_sheet, jpeg, sheet
from tests.tasks.report.browser import Browser, browser, program

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Chromium here")

SHOWN = (
    "[...document.querySelectorAll('#list article')].filter(e => !e.hidden)"
    ".map(e => e.querySelector('.caption').textContent)"
)


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser((1280, 900)) as tab:
        yield tab


def open_sheet(tab: Browser, folder: Path, made: Sheet) -> None:
    page = folder / "captions.html"
    page.write_text(html_sheet(made))
    tab.messages.clear()
    tab.open(page)


def choose(tab: Browser, name: str, value: str) -> None:
    tab.run(f"document.getElementById('{name}').value = {value!r}")
    kind = "input" if name == "query" else "change"
    tab.run(f"document.getElementById('{name}').dispatchEvent(new Event('{kind}'))")


def test_cards_are_found_by_words_and_marks(tab: Browser, tmp_path: Path) -> None:
    cards = [
        card("a red boat", context="a harbour"),
        card("a blue boat", origin="edited"),
        card("a photo", origin="inherited", unusable="refusal", answer="I'm sorry"),
    ]
    open_sheet(tab, tmp_path, sheet(*cards))
    assert tab.run(SHOWN) == ["a red boat", "a blue boat", "a photo"]
    count = "document.getElementById('count').textContent"
    for words, found in (
        ("BOAT", ["a red boat", "a blue boat"]),
        ("boat blue", ["a blue boat"]),
        ("harbour", ["a red boat"]),
        ("sorry", ["a photo"]),
        ("none", []),
    ):
        choose(tab, "query", words)
        assert tab.run(SHOWN) == found
        assert tab.run(count) == f"{len(found)} card{'' if len(found) == 1 else 's'}"
    choose(tab, "query", "")
    choose(tab, "mark", "1")
    assert tab.run(SHOWN) == ["a blue boat"]
    choose(tab, "mark", "3")
    assert tab.run(SHOWN) == ["a photo"]
    choose(tab, "mark", "")
    tab.press("/")
    assert tab.run("document.activeElement.id") == "query"


def test_nothing_of_a_caption_happens(tab: Browser, tmp_path: Path) -> None:
    open_sheet(tab, tmp_path, hostile_sheet())
    for number in range(len(HOSTILE)):
        choose(tab, "mark", str(number))
    assert tab.run("window.hit") is None
    assert tab.run("[...document.images].every(one => one.naturalWidth === 192)")
    assert tab.run("document.querySelectorAll('script').length") == 1
    assert tab.run("document.querySelectorAll('a').length") == 0
    assert tab.troubles() == []
    assert all(url.startswith(("data:", "file:")) for url in tab.requests())


def test_the_tile_is_marked_on_its_photo(tab: Browser, tmp_path: Path) -> None:
    one = card(picture=jpeg(), source="00ff", part=(0.5, 0.25, 0.5, 0.75))
    open_sheet(tab, tmp_path, sheet(one, thumbnails={"00ff": jpeg((160, 80), "navy")}))
    box = (
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.querySelector('%s').getBoundingClientRect())"
    )
    left, top, width, height = tab.run(box % "article svg")
    assert width == pytest.approx(2 * height, rel=0.02) and height > 50
    rect = tab.run(box % "article rect")
    wanted = [left + width / 2, top + height / 4, width / 2, height * 3 / 4]
    assert rect == pytest.approx(wanted, abs=1)


def test_it_fits_a_telephone(tab: Browser, tmp_path: Path) -> None:
    with browser((390, 800), dark=True) as phone:
        open_sheet(phone, tmp_path, hostile_sheet())
        assert phone.run("document.documentElement.scrollWidth") <= 390
