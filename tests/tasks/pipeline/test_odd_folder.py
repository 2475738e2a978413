"""One bad file never ends a run: a folder of broken and odd files gives a good dataset."""

import os
import unicodedata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from storage.quarantine import read_quarantine
from storage.store import open_store
from tasks.stage import Context
from tests import odd_files
from tests.model_fixtures import TinyModels
from tests.permissions import as_anybody
from tests.photos import make_photo
from tests.projects import Prepared, Project, make_old, make_project
from tests.tasks.pipeline.odd_folder import (
    ANIMATED,
    BAD,
    CHANGING,
    GOOD,
    LIKE_THE_PHOTO,
    NO_FILES,
    RECURSIVE,
    fill,
    prepare_while_files_change,
    write,
)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> tuple[Project, Prepared]:
    root = tmp_path_factory.mktemp("odd")
    project = make_project(root / "project", tiny_models["sd15"], num_photos=0)
    fill(project)
    return project, as_anybody(lambda: prepare_while_files_change(project))


def quarantined(project: Project) -> dict[str, dict[str, Any]]:
    store = open_store(project.config().store.url)
    return {row["path"]: row for row in read_quarantine(store).to_pylist()}


def rejected(project: Project, prepared: Prepared) -> dict[str, str]:
    """The reason of every file that is named, each once."""
    paths = [path for path, _ in prepared.rejects]
    assert len(set(paths)) == len(paths), "each is named once"
    return {os.path.relpath(path, project.photos): why for path, why in prepared.rejects}


def full_images(prepared: Prepared, project: Project) -> dict[str, dict[str, Any]]:
    rows = [row for row in prepared.rows.to_pylist() if row["kind"] == "full"]
    assert len({row["path"] for row in rows}) == len(rows)
    return {os.path.relpath(row["path"], project.photos): row for row in rows}


def test_every_bad_file_is_named_once_with_its_reason(folder: tuple[Project, Prepared]) -> None:
    project, prepared = folder
    found = rejected(project, prepared)
    expected = {name: reason for name, (_, reason) in BAD.items()} | NO_FILES | CHANGING
    assert set(found) == set(expected)
    for name, reason in expected.items():
        assert reason in found[name], name
    counts = prepared.counts
    stages = ("scan", "prompts", "crops")
    assert sum(counts[stage].rejected for stage in stages) == len(expected)
    assert counts["text"].rejected == counts["latents"].rejected == 0
    assert {row["attempts"] for row in quarantined(project).values()} == {1}


@pytest.mark.parametrize(
    ("name", "module"), [("photo.heic", "pillow_heif"), ("photo.jxl", "pillow_jxl")]
)
def test_a_format_of_an_extra_says_which(
    folder: tuple[Project, Prepared], name: str, module: str
) -> None:
    reason = rejected(*folder)[name]
    assert ("install tilewright[" in reason) == (find_spec(module) is None)


def test_every_good_file_is_in_the_dataset_once(folder: tuple[Project, Prepared]) -> None:
    project, prepared = folder
    found = full_images(prepared, project)
    assert set(found) == set(GOOD)
    for name, row in found.items():
        told = [unicodedata.normalize("NFC", prompt) for prompt in row["prompts"]]
        stem = Path(name).stem[:20].strip()
        assert told == [unicodedata.normalize("NFC", f"a photo called {stem}")]


def test_the_odd_ones_are_seen_right(folder: tuple[Project, Prepared]) -> None:
    project, prepared = folder
    found = full_images(prepared, project)
    for name in LIKE_THE_PHOTO:
        row = found[name]
        assert (row["original_width"], row["original_height"]) == (96, 64), name
        assert row["luma_std"] == pytest.approx(found["plain.png"]["luma_std"], rel=0.05), name
    ramp = 100 / 255 / 12**0.5  # a linear ramp of 100 of 255 levels
    for name in ("grey16.png", "grey16.tif"):
        assert found[name]["luma_std"] == pytest.approx(ramp, rel=0.1)
    assert found["float-0-to-1.tif"]["luma_std"] == pytest.approx(1 / 12**0.5, rel=0.1)
    for name in ANIMATED.keys() - {"pages.tif"}:
        assert found[name]["luma_std"] < 0.01, f"{name}: one frame of one colour"


def test_several_frames_are_counted(folder: tuple[Project, Prepared]) -> None:
    project, _ = folder
    context = Context(project.config())
    cache = context.hash_cache("image").to_pylist()
    frames = {os.path.relpath(row["path"], project.photos): row["frames"] for row in cache}
    expected = dict.fromkeys(GOOD, 1) | {name: number for name, (_, number) in ANIMATED.items()}
    assert {name: frames[name] for name in GOOD} == expected


def test_later_runs_try_only_what_changed(folder: tuple[Project, Prepared]) -> None:
    project, first = folder
    again = as_anybody(lambda: project.prepare(RECURSIVE))
    changed = {name for name in CHANGING if name.startswith("changes")}
    assert again.counts["scan"].computed == len(changed)
    assert set(full_images(again, project)) == set(GOOD) | changed
    assert set(rejected(project, again)) == set(BAD) | set(NO_FILES)
    tried = {
        os.path.relpath(path, project.photos): row["attempts"]
        for path, row in quarantined(project).items()
    }
    assert {tried[name] for name in BAD} == {1}
    third = as_anybody(lambda: project.prepare(RECURSIVE))
    assert set(third.computed().values()) == {0}
    assert not third.created
    assert rejected(project, third) == rejected(project, again)


def test_a_repaired_file_is_tried_again(folder: tuple[Project, Prepared]) -> None:
    project, _ = folder
    before = as_anybody(lambda: project.prepare(RECURSIVE))
    write(project, "truncated.jpg", make_photo(96, 64, 19))
    (project.photos / "private.jpg").chmod(0o600)
    (project.photos / "locked").chmod(0o700)
    (project.photos / "dangling.jpg").unlink()
    again = as_anybody(lambda: project.prepare(RECURSIVE))
    repaired = {"truncated.jpg", "private.jpg", "locked/unseen.jpg"}
    assert again.counts["scan"].computed == len(repaired)
    assert set(full_images(again, project)) == set(full_images(before, project)) | repaired
    assert set(rejected(project, before)) - set(rejected(project, again)) == {
        *("truncated.jpg", "private.jpg", "locked", "dangling.jpg")
    }


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
