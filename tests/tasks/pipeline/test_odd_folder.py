"""One bad file never ends a run: a folder of broken and odd files gives a good dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.quarantine import read_quarantine
from storage.store import open_store
from tests import odd_files
from tests.model_fixtures import TinyModels
from tests.photos import make_photo
from tests.projects import Prepared, Project, make_old, make_project

RECURSIVE = "concepts.0.include_subdirectories=true"
NAME_MAX = 255
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb.png": (odd_files.bomb_png, "pixels"),
    "empty.jpg": (odd_files.empty, "empty"),
    "header-only.jpg": (odd_files.header_only_jpeg, ""),
    "text.png": (odd_files.text_as_png, "not an image"),
    "truncated.jpg": (odd_files.truncated_jpeg, "truncated"),
    "truncated.png": (odd_files.truncated_png, "truncated"),
}
GOOD: dict[str, Callable[[], bytes]] = {
    "cmyk.jpg": odd_files.cmyk_jpeg,
    "grey16.png": odd_files.grey16_png,
    "plain.png": lambda: odd_files.encoded(odd_files.photo(), "PNG"),
    "rotated.jpg": odd_files.exif_rotated_jpeg,
    "same-stem.jpeg": lambda: make_photo(96, 64, 11),
    "same-stem.png": lambda: odd_files.encoded(odd_files.photo(seed=12), "PNG"),
    "sub/inner.jpg": lambda: make_photo(96, 64, 13),
    "wrong-suffix.png": lambda: make_photo(96, 64, 14),
    "\u00fcml\u00e4ut \u2603 \u65e5\u672c 'quoted' #%.jpg": lambda: make_photo(96, 64, 15),
    "l" * (NAME_MAX - 4) + ".jpg": lambda: make_photo(96, 64, 16),
}


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> tuple[Project, Prepared]:
    root = tmp_path_factory.mktemp("odd")
    project = make_project(root / "project", tiny_models["sd15"], num_photos=0)
    (project.photos / "sub").mkdir()
    (project.photos / "sub" / "loop").symlink_to(project.photos, target_is_directory=True)
    (project.photos / "dangling.jpg").symlink_to(root / "nowhere.jpg")
    for name, make in GOOD.items():
        write(project, name, make())
    for name, (make, _) in BAD.items():
        write(project, name, make())
    return project, project.prepare(RECURSIVE)


def write(project: Project, name: str, data: bytes) -> None:
    path = project.photos / name
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(f"a photo called {path.stem[:20]}")
    make_old(path)
    make_old(path.with_suffix(".txt"))


def rejects(project: Project) -> list[dict[str, Any]]:
    store = open_store(project.config().store.url)
    return sorted(read_quarantine(store).to_pylist(), key=lambda row: str(row["path"]))


def full_images(prepared: Prepared, project: Project) -> dict[str, dict[str, Any]]:
    rows = [row for row in prepared.rows.to_pylist() if row["kind"] == "full"]
    return {str(Path(row["path"]).relative_to(project.photos)): row for row in rows}


def test_every_bad_file_is_rejected_once_with_a_reason(folder: tuple[Project, Prepared]) -> None:
    project, prepared = folder
    found = rejects(project)
    assert [Path(row["path"]).name for row in found] == list(BAD)
    for row, (_, reason) in zip(found, BAD.values(), strict=True):
        assert row["reason"]
        assert reason in row["reason"]
        assert row["stage"] in ("scan", "crops")
        assert row["attempts"] == 1
    counts = prepared.counts
    assert sum(counts[stage].rejected for stage in ("scan", "prompts", "crops")) == len(BAD)
    assert counts["text"].rejected == counts["latents"].rejected == 0


def test_every_good_file_is_in_the_dataset_once(folder: tuple[Project, Prepared]) -> None:
    project, prepared = folder
    paths = [row["path"] for row in prepared.rows.to_pylist() if row["kind"] == "full"]
    assert len(paths) == len(GOOD)
    found = full_images(prepared, project)
    assert set(found) == set(GOOD)
    for name, row in found.items():
        assert row["prompts"] == [f"a photo called {Path(name).stem[:20]}"]


def test_the_odd_ones_are_seen_right(folder: tuple[Project, Prepared]) -> None:
    project, prepared = folder
    found = full_images(prepared, project)
    for name in ("cmyk.jpg", "rotated.jpg", "plain.png"):
        row = found[name]
        assert (row["original_width"], row["original_height"]) == (96, 64), name
        assert row["luma_std"] == pytest.approx(found["plain.png"]["luma_std"], rel=0.05), name
    ramp = 100 / 255 / 12**0.5  # a linear ramp of 100 of 255 levels
    assert found["grey16.png"]["luma_std"] == pytest.approx(ramp, rel=0.1)


def test_a_second_run_computes_nothing(folder: tuple[Project, Prepared]) -> None:
    project, first = folder
    again = project.prepare(RECURSIVE)
    assert set(again.computed().values()) == {0}
    assert not again.created
    assert {name: counts.rejected for name, counts in again.counts.items()} == {
        name: counts.rejected for name, counts in first.counts.items()
    }
    assert [row["attempts"] for row in rejects(project)] == [1] * len(BAD)


def test_a_repaired_file_is_tried_again(folder: tuple[Project, Prepared]) -> None:
    project, first = folder
    write(project, "truncated.jpg", make_photo(96, 64, 17))
    again = project.prepare(RECURSIVE)
    assert again.counts["scan"].computed == 1
    assert set(full_images(again, project)) == {*GOOD, "truncated.jpg"}
    assert sum(counts.rejected for counts in again.counts.values()) == len(BAD) - 1


def test_raising_the_pixel_limit_brings_refused_files_back(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    project.add_photo("large", 9, "a larger photo", (320, 240))
    limited = project.prepare("data.max_pixels=20000")
    assert limited.counts["scan"].rejected == 1
    assert limited.rejects == [
        (str(project.photos / "large.jpg"), "76800 pixels are more than data.max_pixels = 20000")
    ]
    raised = project.prepare()
    assert raised.counts["scan"].rejected == 0
    assert raised.counts["scan"].computed == 0
    assert raised.rejects == []
    assert str(project.photos / "large.jpg") in raised.rows["path"].to_pylist()


def test_a_plan_and_its_run_count_bad_files_alike(tmp_path: Path, tiny_models: TinyModels) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    for name, content in (("empty.jpg", odd_files.empty()), ("text.png", odd_files.text_as_png())):
        (project.photos / name).write_bytes(content)
        make_old(project.photos / name)
    plan = project.plan()["stages"]["scan"]
    first, second = project.prepare().counts["scan"], project.prepare().counts["scan"]
    assert (plan["wanted"], plan["computed"]) == (first.wanted, first.computed) == (4, 4)
    assert (second.wanted, second.reused, second.computed) == (4, 4, 0)
    assert first.rejected == second.rejected == 2
