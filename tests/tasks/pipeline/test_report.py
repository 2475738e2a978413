"""Reports of real preparations: from a run, and from the store alone."""

from pathlib import Path

import pytest

from storage.store import Store, open_store
from storage.versions import Version
from tasks.config.models import Config
from tasks.imaging.layout import concept_layout, place_views
from tasks.pipeline.report import (
    current_report,
    num_missing_captions,
    read_digest,
    report_path,
    rewrite_report,
    version_config,
    write_report,
)
from tasks.pipeline.run import StagePlan, make_version, plan_stage, seal_stage, work_partition
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageRef
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.tasks.report.page import read_page, unpack


@pytest.fixture
def project(tmp_path: Path, tiny_models: TinyModels) -> Project:
    return make_project(tmp_path / "project", tiny_models["sd15"], num_photos=3)


def prepared(config: Config) -> tuple[Version, dict[str, StageRef]]:
    refs: dict[str, StageRef] = {}
    for stage in STAGES:
        planned = plan_stage(config, stage.name, {up: refs[up] for up in stage.after})
        if isinstance(planned, StagePlan):
            for number in range(planned.num_partitions):
                work_partition(config, planned, number)
            planned = seal_stage(config, planned)
        refs[stage.name] = planned
    return make_version(config, refs)[0], refs


def html(store: Store, version: Version) -> str:
    return store.read_bytes(report_path(version)).decode()


def test_a_run_leaves_pictures_so_that_a_report_reads_no_source(project: Project) -> None:
    config = project.config()
    version, refs = prepared(config)
    for photo in project.photos.glob("*.jpg"):
        photo.unlink()
    store = open_store(config.store.url)
    uri = write_report(config, version, refs)
    assert uri == store.uri(report_path(version))
    found = unpack(html(store, version))
    assert [Path(source["path"]).name for source in found] == [f"photo{n}.jpg" for n in range(3)]
    for source in found:
        assert source["picture"].startswith(b"\xff\xd8")
        assert (source["width"], source["height"]) == (160, 112)
        assert source["samples"] == source["kept"] + 1
    page = read_page(html(store, version))
    assert "batch_size = 2" in page.all("section", id="epochs")[0].text()
    lines = page.all("section", id="made")[0].all("tr")[1:]
    assert [line.all("td")[0].text() for line in lines][:3] == ["scan", "prompts", "crops"]


def test_the_store_alone_gives_the_same_sources(project: Project) -> None:
    (project.photos / "broken.jpg").write_bytes(b"no image")
    config = project.config("concepts.0.image.detail_crops.scales=[0.5,2]")
    version, refs = prepared(config)
    store = open_store(config.store.url)
    write_report(config, version, refs)
    first = unpack(html(store, version))
    rewrite_report(store, version)
    second = unpack(html(store, version))
    assert first == second
    assert first[0]["without"] == [
        ["detail", 0.5, "short side 32 px is smaller than the tile (64 px)"]
    ]
    (note,) = second[-1]["notes"]
    assert second[-1]["path"].endswith("broken.jpg")
    assert note.startswith("rejected in scan: not an image")


def test_a_version_tells_the_settings_that_its_geometry_came_from(project: Project) -> None:
    made = project.config("concepts.0.image.detail_crops.regenerate_each_epoch=true",
                          "train.epochs=3", "data.resolution=96")  # fmt: skip
    version, _ = prepared(made)
    other = project.config("train.batch_size=7", "data.remainder=drop")
    found = version_config(open_store(made.store.url), version, other)
    assert found is not None
    views = [
        list(place_views(concept_layout(config, config.concepts[0], 8), b"s" * 16, 160, 112))
        for config in (found, made)
    ]
    assert views[0] == views[1]
    assert {view.phase for view in views[0]} == {None, 0, 1, 2}
    assert (found.train, found.data.remainder) == (other.train, "drop")
    assert found.data.resolution == "96"


def test_what_changed_since_the_version_before(project: Project) -> None:
    prepared(project.config())
    (project.photos / "photo0.jpg").rename(project.photos / "moved.jpg")
    (project.photos / "photo0.txt").rename(project.photos / "moved.txt")
    (project.photos / "photo1.txt").write_text("another prompt")
    project.add_photo("photo2", 77, "a photo, number 2")
    project.add_photo("new", 78, "a new photo")
    config = project.config()
    version, refs = prepared(config)
    store = open_store(config.store.url)
    write_report(config, version, refs)
    page = read_page(html(store, version))
    part = page.all("section", id="changes")[0]
    assert "Changed since version 1" in part.text()
    told = {pill.all("summary")[0].text() for pill in part.all("details")}
    assert told == {"1 added", "1 with other content", "1 renamed", "1 re-prompted"}
    notes = {Path(source["path"]).name: source["notes"] for source in unpack(html(store, version))}
    assert notes["moved.jpg"] == [f"was {project.photos / 'photo0.jpg'}"]


def test_a_changed_threshold_is_told_with_the_setting(project: Project) -> None:
    prepared(project.config())
    config = project.config("concepts.0.image.detail_crops.blank_std_threshold=0.2")
    version, refs = prepared(config)
    write_report(config, version, refs)
    part = read_page(html(open_store(config.store.url), version)).all("section", id="changes")[0]
    assert "re-cropped" in part.text()
    assert "concepts.photos.image.detail_crops.blank_std_threshold" in part.text()


def test_a_report_is_made_anew_for_new_rejects(project: Project) -> None:
    config = project.config()
    store = open_store(config.store.url)
    version, refs = prepared(config)
    assert current_report(store, version) is None
    uri = write_report(config, version, refs)
    assert current_report(store, version) == current_report(store, version, refs) == uri
    (project.photos / "broken.jpg").write_bytes(b"no image")
    again, refs = prepared(config)
    assert again.number == version.number
    assert current_report(store, version) == uri
    assert current_report(store, version, refs) is None
    write_report(config, version, refs)
    assert current_report(store, version, refs) == uri
    assert "not an image" in html(store, version)


def test_a_version_of_a_cleaned_store_still_has_a_report(project: Project) -> None:
    config = project.config()
    version, refs = prepared(config)
    store = open_store(config.store.url)
    for ref in refs.values():
        store.delete(ref.manifest)
    rewrite_report(store, version)
    found = unpack(html(store, version))
    assert len(found) == 3
    assert all(source["kept"] > 0 and source["picture"] for source in found)


def test_missing_captions_are_counted_as_in_the_report(project: Project) -> None:
    (project.photos / "photo0.txt").unlink()
    config = project.config()
    version, _ = prepared(config)
    assert num_missing_captions(Context(config), version) == 1


def test_a_digest_beside_the_report_has_its_tables_and_pictures(project: Project) -> None:
    """Prefect's artifacts are made of it; a report without one is made again."""
    (project.photos / "broken.jpg").write_bytes(b"no picture")
    config = project.config("concepts.0.image.detail_crops.blank_std_threshold=0.08")
    version, refs = prepared(config)
    store = open_store(config.store.url)
    write_report(config, version, refs)
    digest = read_digest(store, version)
    (scan,) = digest["tables"]["scan"]
    sizes = [path.stat().st_size for path in project.photos.glob("photo*.jpg")]
    assert (scan["concept"], scan["images"], scan["bytes"]) == ("photos", 3, sum(sizes))
    assert scan["short_side_px"] == "112 / 112 / 112"
    assert scan["formats"].startswith("3 ")
    (reject,) = digest["tables"]["rejects"]
    assert (reject["stage"], Path(reject["path"]).name) == ("scan", "broken.jpg")
    full, detail = digest["tables"]["crops"]
    assert (full["kind"], full["cut"], full["samples"]) == ("full", 3, 3)
    assert (detail["kind"], detail["scale"], detail["cut"]) == ("detail", 2.0, 36)
    assert detail["cut"] - detail["dropped"] == detail["samples"]
    assert detail["dropped"] == 0 or "blank" in detail["why"]
    buckets = digest["tables"]["buckets"]
    assert sum(bucket["samples"] for bucket in buckets) == version.num_samples
    assert [Path(photo["path"]).name for photo in digest["photos"]] == [
        f"photo{number}.jpg" for number in range(3)
    ]
    assert all(photo["picture"].startswith("data:image/jpeg") for photo in digest["photos"])
    assert current_report(store, version, refs) is not None
    store.delete(f"datasets/{version.name}/{version.number:06}.digest.json")
    assert current_report(store, version, refs) is None
    assert read_digest(store, version) == {"tables": {}, "photos": []}
