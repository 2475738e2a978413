"""The page of a run, read back as a browser reads it."""

import re
from pathlib import Path

import pytest

from tasks.pages.safe import policy_hash
from tasks.report.run_history import read_history
from tasks.report.run_page import build_run_page, duration, size
from tests.tasks.report import runs
from tests.tasks.report.page import Element, read_page

HOSTILE = '</style></title><script>hit()</script><img src="x" onerror="hit()">\u202e&amp;'


def charts(page: Element) -> dict[str, Element]:
    section = page.all("section", id="curves")[0]
    return {figure.all("figcaption")[0].text(): figure for figure in section.all("figure")}


def legend(figure: Element) -> dict[str, str]:
    spans = figure.all("p", class_="legend")[0].all("span")
    return {span.all("bdi")[0].text(): span.all("b")[0].text() for span in spans}


def made_from(page: Element) -> dict[str, str]:
    rows = page.all("section", id="made")[0].all("tr")
    return {row.all("th")[0].text(): row.all("td")[0].text() for row in rows}


def test_every_curve_is_there_with_its_newest_value() -> None:
    found = charts(read_page(build_run_page(runs.make_run())))
    assert {title: legend(figure) for title, figure in found.items()} == {
        "Loss": {"smoothed": "0.658", "each step": "0.158"},
        "Validation loss by concept": {"all": "0.05", "sea": "0.05", "flowers": "1.05"},
        "Validation loss by timestep (0% is clean)": {"0% – 50%": "1.05", "50% – 100%": "-0.45"},
        "Learning rate": {"denoiser": "0.004", "text_encoder_1": "4e-4"},
        "Gradient norm before clipping logarithmic": {"gradient norm": "4"},
        "Speed samples per second": {"speed": "8"},
        "Waiting for data % of the time": {"waiting": "2"},
    }
    for figure in found.values():
        lines = [path for path in figure.all("path") if path.attributes["class"].startswith("line")]
        assert len(lines) == len(legend(figure))
        assert all(re.fullmatch(r"M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)+", path.attributes["d"])
                   for path in lines)  # fmt: skip


def test_where_it_came_from_and_what_is_kept_is_told() -> None:
    page = read_page(build_run_page(runs.make_run()))
    told = made_from(page)
    assert told["dataset version"] == "harbour@3"
    assert told["base model"] == "models/base"
    assert told["run"] == "20261126-200608-harbour-0bce1d"
    assert "resumed from" not in told
    files = page.all("section", id="files")[0]
    assert [row.all("td")[0].text() for row in files.all("tr")[1:]] == [
        "finished model", "backup", "backup",
    ]  # fmt: skip
    assert "4 backups written; the 2 newest are kept." in files.text()
    numbers = page.all("div", class_="number")
    assert [part.text() for part in numbers[0].all_of_any_tag()] == ["40", "of 40 steps"]


def test_what_was_resumed_and_why_it_failed_is_told() -> None:
    events = [*runs.trained(20), runs.start(10, 2000.0, "backups/00000010")]
    events += [
        runs.step(11, 2001.0, 0.3),
        {"event": "failed", "time": 2002.0, "error": "no memory"},
    ]
    page = read_page(build_run_page(runs.make_run(read_history(events), state="failed")))
    assert page.all("li", class_="why")[0].text().endswith("no memory")
    assert made_from(page)["resumed from"] == "step 10"
    assert len(charts(page)["Loss"].all("path", class_="mark")) == 1


def test_a_run_that_was_never_trained_has_a_page() -> None:
    run = runs.make_run(read_history([]), state="", kept=[], config={}, dataset="")
    page = read_page(build_run_page(run))
    assert "not started" in page.all("section", id="overview")[0].text()
    assert not page.all("section", id="curves") and not page.all("section", id="samples")


def test_values_that_are_not_finite_are_left_out() -> None:
    steps = [runs.step(number, 1.0, 0.5, grad_norm=float("nan")) for number in range(1, 5)]
    steps.append(runs.step(5, 2.0, None, grad_norm=None))
    page = read_page(build_run_page(runs.make_run(read_history([runs.start(0, 0.0), *steps]))))
    assert "Gradient norm before clipping" not in charts(page)
    assert legend(charts(page)["Loss"])["each step"] == "0.5"


def test_the_grid_has_a_row_for_each_prompt_and_a_column_for_each_step(tmp_path: Path) -> None:
    images = runs.images(tmp_path, steps=3, prompts=2, size=300)
    images[30][1].write_bytes(images[30][1].read_bytes()[:500])
    page = read_page(build_run_page(runs.make_run(images=images)))
    grid = page.all("section", id="samples")[0]
    head, *rows = grid.all("tr")
    assert [cell.text() for cell in head.all("th")] == ["prompt", "step 10", "step 20", "step 30"]
    assert [row.all("th")[0].text() for row in rows] == ["a harbour", "a pier"]
    assert [len(row.all("img")) for row in rows] == [3, 2]
    assert rows[1].all("td")[2].text() == "–"
    for image in grid.all("img"):
        assert image.attributes["src"].startswith("data:image/webp;base64,")
        assert (image.attributes["width"], image.attributes["height"]) == ("192", "192")


def test_many_images_keep_the_first_and_the_newest_step(tmp_path: Path) -> None:
    images = runs.images(tmp_path, steps=31, prompts=1)
    run = runs.make_run(images=images)
    text = read_page(build_run_page(run)).all("section", id="samples")[0]
    steps = [cell.text() for cell in text.all("tr")[0].all("th")[1:]]
    assert len(steps) == 10
    assert (steps[0], steps[-1]) == ("step 10", "step 310")
    assert "10 of 31 steps with images" in text.text()


def test_nothing_of_a_user_becomes_markup(tmp_path: Path) -> None:
    plain = build_run_page(runs.make_run(images=runs.images(tmp_path, steps=1, prompts=1)))
    events = [*runs.trained(10), {"event": "message", "time": 1.0, "text": HOSTILE}]
    events[10] = runs.step(10, 1005.0, 0.5, learning_rates={HOSTILE: 1e-4})
    hostile = runs.make_run(
        read_history(events),
        run_id=HOSTILE,
        workspace=HOSTILE,
        state=HOSTILE,
        dataset=HOSTILE,
        config={"model": {"base": HOSTILE}, "train": {"sample": {"prompts": [HOSTILE]}}},
        images=runs.images(tmp_path, steps=1, prompts=1),
    )
    page = build_run_page(hostile)
    assert {one.tag for one in read_page(page).all_of_any_tag()} <= {
        *(one.tag for one in read_page(plain).all_of_any_tag()), "ul", "li",
    }  # fmt: skip
    assert "\u202e" not in page and "<script" not in page
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert f"style-src '{policy_hash(style)}'" in page


def test_a_long_run_has_a_small_page() -> None:
    page = build_run_page(runs.make_run(read_history(runs.trained(20_000, every=100))))
    assert len(page) < 300_000


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (59.7, "1:00 min"), (185, "3:05 min"), (43_440, "12:04 h")]
)
def test_durations_are_told_for_people(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_sizes_are_told_for_people() -> None:
    sizes = {0: "0 bytes", 1023: "1023 bytes", 1536: "1.5 KiB", 7 * 2**30: "7 GiB"}
    assert {number: size(number) for number in sizes} == sizes
