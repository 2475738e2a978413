"""Kept tiles as files: which, named how, and what is left alone."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.export.record import RECORD, read_record
from tasks.imaging.decode import decode
from tasks.imaging.jobs import row_view
from tasks.imaging.views import view_pixels
from tasks.pipeline.export import export_tiles
from tests.model_fixtures import TinyModels
from tests.projects import copy_project, make_old
from tests.server_fixtures import PrefectServer
from tests.tasks.pipeline.exporting import (
    CROPS,
    Exporting,
    copy_exporting,
    make_exporting,
    rows_of,
)

TWO = "train.epochs=2"


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Exporting:
    return make_exporting(tmp_path_factory.mktemp("exported") / "project", tiny_models["sd15"])


@pytest.fixture
def exporting(exported_once: Exporting, tmp_path: Path) -> Exporting:
    return copy_exporting(exported_once, tmp_path / "project")


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Which files there are and when they were written."""
    stats = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}


def test_every_kept_tile_is_a_picture_of_its_pixels(exported_once: Exporting) -> None:
    prepared = exported_once.prepare()
    tiles = [row for row in prepared.rows.to_pylist() if row["kind"] != "full"]
    assert len(exported_once.pictures()) == len(tiles) > 0
    for picture in exported_once.pictures():
        (row,) = rows_of(prepared, picture)
        image = decode(Path(row["path"]).read_bytes())
        assert np.array_equal(np.asarray(Image.open(picture)), view_pixels(image, row_view(row)))
        sidecar = picture.with_suffix(".txt").read_text()
        assert sidecar.splitlines() == row["prompts"]


def test_a_second_run_writes_nothing_and_decodes_nothing(exporting: Exporting) -> None:
    before = stamps(exporting.tiles)
    again = exporting.prepare()
    assert stamps(exporting.tiles) == before
    config = exporting.project.config(*exporting.settings())
    shutil.rmtree(exporting.project.photos)
    exported = export_tiles(config, again.version)
    assert exported == again.exported is not None
    assert (exported.tiles, exported.written, exported.sidecars) == (
        len(exporting.pictures()),
        0,
        0,
    )
    assert exported.skipped == ()


def test_names_do_not_depend_on_the_rest_of_the_dataset(exporting: Exporting) -> None:
    names = {path.name for path in exporting.tiles.iterdir()}
    shutil.rmtree(exporting.tiles)
    (exporting.project.photos / "photo0.jpg").unlink()
    exporting.project.add_photo("another", 9, "another one")
    exporting.prepare(f"{CROPS}scales=[2, 3]", f"{CROPS}include_full_images=false")
    found = {path.name for path in exporting.tiles.iterdir()}
    assert {name for name in names if name.startswith("photo1")} <= found


def test_variations_and_phases_share_one_picture(exporting: Exporting) -> None:
    settings = (f"{CROPS}regenerate_each_epoch=true", TWO, "concepts.0.image_variations=2")
    flips = ("concepts.0.image.enable_random_flip=true", "data.seed=3")
    prepared = exporting.prepare(*settings, *flips)
    rows = [row for row in prepared.rows.to_pylist() if row["kind"] != "full"]
    views = {row["view_id"] for row in rows}
    assert len(rows) > len(views)
    assert len(exporting.pictures()) == len(views)
    for picture in exporting.pictures():
        row = rows_of(prepared, picture)[0]
        image = decode(Path(row["path"]).read_bytes())
        assert np.array_equal(np.asarray(Image.open(picture)), view_pixels(image, row_view(row)))


def test_at_most_so_many_tiles_of_a_photo_spread_over_it(exporting: Exporting) -> None:
    all_names = [path.name for path in exporting.pictures("photo0")]
    shutil.rmtree(exporting.tiles)
    exported = exporting.prepare(f"{CROPS}save_max_tiles_per_image=3").exported
    assert exported is not None
    assert (exported.tiles, exported.written) == (6, 6)
    few = [path.name for path in exporting.pictures("photo0")]
    assert len(few) == 3
    assert set(few) < set(all_names)
    tops = {int(name.split("_")[-1].split("-")[1]) for name in few}
    assert len(tops) > 1


def test_files_of_others_are_left_alone(exporting: Exporting) -> None:
    picture, sidecar = exporting.pictures()[0], exporting.sidecars()[1]
    shutil.rmtree(exporting.tiles)
    exporting.tiles.mkdir()
    for foreign in (picture, sidecar, exporting.tiles / "notes.md", exporting.tiles / "a.png"):
        foreign.write_text("somebody else's\n")
    exporting.prepare()
    for foreign in (picture, sidecar, exporting.tiles / "notes.md", exporting.tiles / "a.png"):
        assert foreign.read_text() == "somebody else's\n"
    assert len(exporting.sidecars()) == len(exporting.pictures()) - 1


def test_what_was_deleted_is_written_again_and_only_that(exporting: Exporting) -> None:
    picture, sidecar = exporting.pictures()[0], exporting.sidecars()[1]
    old_pixels, old_text = picture.read_bytes(), sidecar.read_text()
    before = stamps(exporting.tiles)
    picture.unlink()
    sidecar.unlink()
    exported = exporting.prepare().exported
    assert exported is not None
    assert (exported.written, exported.sidecars) == (1, 1)
    assert (picture.read_bytes(), sidecar.read_text()) == (old_pixels, old_text)
    new = {picture.name, sidecar.name, RECORD}
    after = stamps(exporting.tiles)
    assert {name for name in after if after[name] != before[name]} <= new


def test_unedited_sidecars_follow_their_source(exporting: Exporting) -> None:
    edited, *others = exporting.sidecars("photo0")
    edited.write_text("my own words\n")
    (exporting.project.photos / "photo0.txt").write_text("a new caption")
    exported = exporting.prepare().exported
    assert exported is not None
    assert (exported.written, exported.sidecars, exported.edited) == (0, len(others), 1)
    assert edited.read_text() == "my own words\n"
    assert {path.read_text() for path in others} == {"a new caption\n"}
    assert {path.read_text() for path in exporting.sidecars("photo1")} == {"a photo, number 1\n"}


def test_a_vanished_photo_is_skipped_and_told(exporting: Exporting) -> None:
    shutil.rmtree(exporting.tiles)
    version = exporting.project.prepare().version
    photo = exporting.project.photos / "photo0.jpg"
    photo.unlink()
    exported = export_tiles(exporting.project.config(*exporting.settings()), version)
    assert exported is not None
    assert exported.skipped == (str(photo),)
    assert exporting.pictures("photo0") == exporting.sidecars("photo0") == []
    assert exported.written == len(exporting.pictures("photo1")) == exported.tiles


def test_a_lost_or_damaged_record_edits_nothing(exporting: Exporting) -> None:
    for damage in (Path.unlink, lambda path: path.write_text("{")):
        damage(exporting.tiles / RECORD)
        after = exporting.prepare()
        assert after.counts["captions"].wanted == 0
        assert len(read_record(exporting.tiles)) == len(exporting.pictures())
        (exporting.project.photos / "photo0.txt").write_text(f"words, {os.urandom(3).hex()}")
        make_old(exporting.project.photos / "photo0.txt")
        assert exporting.prepare().exported.sidecars == len(exporting.sidecars("photo0"))


def test_dropped_tiles_are_not_exported(exporting: Exporting) -> None:
    shutil.rmtree(exporting.tiles)
    prepared = exporting.prepare(f"{CROPS}blank_std_threshold=0.08")
    tiles = [row for row in prepared.rows.to_pylist() if row["kind"] != "full"]
    assert 0 < len(tiles) < 24
    assert len(exporting.pictures()) == len(tiles)


def test_the_plan_says_what_is_written(exporting: Exporting) -> None:
    exporting.pictures()[0].unlink()
    exporting.sidecars()[3].unlink()
    before = stamps(exporting.tiles)
    planned = exporting.plan()["export"]
    assert stamps(exporting.tiles) == before
    exported = exporting.prepare().exported
    assert exported is not None
    assert planned == exported.as_json()
    assert (exported.written, exported.sidecars) == (1, 1)


EXPORT = """
import sys
from pathlib import Path
from storage.store import open_store
from storage.versions import latest_version
from tasks.pipeline.export import export_tiles
from tests.projects import Project

config = Project(Path(sys.argv[1])).config(*sys.argv[2:])
export_tiles(config, latest_version(open_store(config.store.url), "test"))
"""


@pytest.mark.parametrize("kind", ["*.png", "*.txt"])
def test_a_kill_leaves_whole_files_and_no_false_edit(
    exported_once: Exporting, tmp_path: Path, kind: str
) -> None:
    project = copy_project(exported_once.project, tmp_path / "project")
    exporting = Exporting(project, project.folder / "many")
    many = (f"{CROPS}scales=[12]", "data.latent_caching=false")
    project.prepare(*many)
    command = [sys.executable, "-c", EXPORT, project.folder, *exporting.settings(*many)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    while process.poll() is None and len(list(exporting.tiles.glob(kind))) < 20:
        time.sleep(0.001)
    process.kill()
    process.wait()
    for picture in exporting.pictures():
        Image.open(picture).load()
    for number in range(2):
        (project.photos / f"photo{number}.txt").write_text("another caption by now")
    after = exporting.prepare(*many)
    assert after.counts["captions"].wanted == 0
    tiles = [row for row in after.rows.to_pylist() if row["kind"] != "full"]
    assert len(exporting.pictures()) == len(exporting.sidecars()) == len(tiles) > 300
    assert {path.read_text() for path in exporting.sidecars()} == {"another caption by now\n"}


def test_nobody_asked_for_files(exporting: Exporting) -> None:
    shutil.rmtree(exporting.tiles)
    assert "export" not in exporting.project.plan()
    assert exporting.project.prepare().exported is None
    assert not exporting.tiles.exists()


def test_the_export_is_a_task_and_cached_when_nothing_is_missing(
    exporting: Exporting, prefect_server: PrefectServer
) -> None:
    exporting.pictures()[0].unlink()
    arguments = [exporting.project.run_toml, "--json"]
    for setting in exporting.settings():
        arguments += ["--set", setting]
    for state, written in (("Completed", 1), ("Cached", 0)):
        told = prefect_server.tilewright("prepare", *arguments).summary()
        assert (told["export"]["written"], told["export"]["tiles"]) == (written, 24)
        flow_run = prefect_server.newest_run()
        assert prefect_server.task_states(flow_run)["export"] == state
    runs = prefect_server.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
    (message,) = [run["state"]["message"] for run in runs if run["name"] == "export"]
    assert message == "reused 24 tiles"
