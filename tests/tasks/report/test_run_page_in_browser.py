"""The page of a run in a real Chromium: it fits its window, and asks for nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.report.run_page import build_run_page
from tests.tasks.report import runs
from tests.tasks.report.browser import Browser, browser, program

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    images = runs.images(folder, steps=6, prompts=2, size=256)
    path = folder / "report.html"
    path.write_text(build_run_page(runs.make_run(images=images)))
    return path


@pytest.fixture(scope="module", params=[(1360, 900), (390, 844)])
def tab(request: pytest.FixtureRequest, page: Path) -> Iterator[Browser]:
    with browser(request.param, dark=True) as tab:
        tab.load(page)
        yield tab


def test_it_is_shown_without_trouble_and_asks_for_nothing(tab: Browser, page: Path) -> None:
    assert tab.troubles() == []
    asked = {url for url in tab.requests() if not url.startswith("data:")}
    assert asked == {page.as_uri()}
    broken = "[...document.images].filter(one => !one.naturalWidth).length"
    assert tab.run("document.images.length") == 12
    assert tab.run(broken) == 0


def test_it_is_as_wide_as_its_window(tab: Browser) -> None:
    assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
    outside = "[...document.querySelectorAll('.box')].filter(one => one.getBoundingClientRect()"
    assert tab.run(f"{outside}.right > window.innerWidth).length") == 0


def test_lines_have_a_colour_each_and_legends_the_same(tab: Browser) -> None:
    colour = "one => getComputedStyle(one)"
    lines = f"[...document.querySelectorAll('figure .line')].map({colour}.stroke)"
    swatches = f"[...document.querySelectorAll('.legend i')].map({colour}.backgroundColor)"
    drawn, told = tab.run(lines), tab.run(swatches)
    assert sorted(drawn) == sorted(told)
    assert "none" not in drawn and len(set(drawn)) >= 3
