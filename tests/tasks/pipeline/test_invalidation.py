"""Only what is invalid runs again, per item: each change and the counts that it must give."""

import shutil
from pathlib import Path

import pytest

from tests.model_fixtures import TinyModels
from tests.photos import make_photo
from tests.projects import Prepared, Project, make_old, make_project

NOTHING = {"scan": 0, "prompts": 0, "crops": 0, "text": 0, "latents": 0}
TILES = 12
"""160 x 112 at scale 2 of 64 px: 183 x 128, so 4 x 3 tiles of 64 px with an overlap of 8."""


@pytest.fixture(scope="module")
def prepared_once(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> tuple[Project, Prepared]:
    project = make_project(tmp_path_factory.mktemp("first") / "project", tiny_models["sd15"])
    return project, project.prepare()


@pytest.fixture
def project(prepared_once: tuple[Project, Prepared], tmp_path: Path) -> Project:
    """A prepared project of its own, with its store; the copied photos have other inodes."""
    original, _ = prepared_once
    shutil.copytree(original.folder, tmp_path / "project")
    copied = Project(tmp_path / "project")
    copied.prepare()
    return copied


def test_a_first_run_computes_everything_once(prepared_once: tuple[Project, Prepared]) -> None:
    _, first = prepared_once
    views = 3 * (1 + TILES)
    assert first.computed() == {
        "scan": 3,
        "prompts": 3,
        "crops": views,
        "text": 3 + 1,
        "latents": first.rows.num_rows,
    }
    assert first.created
    assert first.version.number == 1


def test_a_second_run_computes_nothing(project: Project) -> None:
    again = project.prepare()
    assert again.computed() == NOTHING
    assert not again.created


def test_an_edited_sidecar_is_one_text(project: Project) -> None:
    sidecar = project.photos / "photo1.txt"
    sidecar.write_text("something else altogether")
    plan = project.plan()["stages"]
    after = project.prepare()
    assert after.computed() == NOTHING | {"prompts": 1, "text": 1}
    assert after.counts["text"].changed == 1
    assert after.counts["text"].reasons == {"the prompt changed": 1}
    assert {name: plan[name]["computed"] for name in NOTHING} == after.computed()
    assert after.created


def test_a_renamed_photo_is_free(project: Project) -> None:
    for suffix in (".jpg", ".txt"):
        (project.photos / f"photo1{suffix}").rename(project.photos / f"renamed{suffix}")
    before = project.config()
    after = project.prepare()
    assert after.computed() == NOTHING
    assert after.version.content_digest == first_digest(project)
    assert before == project.config()


def test_a_renamed_photo_without_its_sidecar_encodes_nothing(project: Project) -> None:
    (project.photos / "photo1.jpg").rename(project.photos / "renamed.jpg")
    after = project.prepare()
    assert after.computed() == NOTHING | {"prompts": 1}
    assert set(after.rows["prompt_origin"].to_pylist()) == {"sidecar", "inherited", "none"}


def test_a_replaced_photo_is_its_own_samples(project: Project) -> None:
    (project.photos / "photo1.jpg").write_bytes(make_photo(160, 112, 99))
    make_old(project.photos / "photo1.jpg")
    after = project.prepare()
    views = 1 + TILES
    assert after.computed() == NOTHING | {
        "scan": 1,
        "prompts": 1,
        "crops": views,
        "latents": len(samples_of(after, "photo1.jpg")),
    }
    assert after.counts["scan"].changed == 1
    assert after.counts["latents"].changed == after.counts["latents"].computed


def test_an_added_photo_is_its_own_samples(project: Project) -> None:
    project.add_photo("another", 7, "another photo")
    after = project.prepare()
    assert after.computed() == {
        "scan": 1,
        "prompts": 1,
        "crops": 1 + TILES,
        "text": 1,
        "latents": len(samples_of(after, "another.jpg")),
    }
    assert after.counts["latents"].new == after.counts["latents"].computed


def test_a_removed_photo_computes_nothing(project: Project) -> None:
    (project.photos / "photo1.jpg").unlink()
    after = project.prepare()
    assert after.computed() == NOTHING
    assert after.counts["scan"].removed == 1
    assert not samples_of(after, "photo1.jpg")


def test_a_higher_threshold_decodes_nothing(project: Project) -> None:
    option = "concepts.0.image.detail_crops.blank_std_threshold=0.08"
    after = project.prepare(option)
    assert after.computed() == NOTHING
    assert after.rows.num_rows < project.prepare().rows.num_rows


@pytest.mark.parametrize(
    "option",
    ["train.learning_rate=0.5", "train.seed=1", "model.output='x.safetensors'", "train.epochs=9"],
)
def test_training_settings_touch_no_stage(project: Project, option: str) -> None:
    after = project.prepare(option)
    assert after.computed() == NOTHING
    assert not after.created


def test_another_name_or_concept_shares_its_items(project: Project) -> None:
    shutil.copytree(project.photos, project.folder / "same")
    extra = "\n[[concepts]]\nname = 'same'\npath = 'same'\n"
    project.run_toml.write_text(project.run_toml.read_text() + extra)
    after = project.prepare("data.seed=0")
    assert after.counts["latents"].computed == 0
    assert after.counts["crops"].computed == 0
    assert len(set(after.rows["row_id"].to_pylist())) == after.rows.num_rows


def test_equal_files_of_one_concept_are_one_row_with_both_prompts(project: Project) -> None:
    shutil.copy2(project.photos / "photo1.jpg", project.photos / "twin.jpg")
    (project.photos / "twin.txt").write_text("the twin's prompt")
    after = project.prepare()
    assert after.computed() == NOTHING | {"scan": 1, "prompts": 1, "text": 1}
    full = [row for row in after.rows.to_pylist() if row["kind"] == "full"]
    assert len(full) == 3
    assert ["a photo, number 1", "the twin's prompt"] in [row["prompts"] for row in full]


def test_refresh_makes_a_stage_anew_and_only_it(project: Project) -> None:
    count = project.prepare().counts["latents"].wanted
    after = project.prepare('refresh=["latents"]')
    assert after.computed() == NOTHING | {"latents": count}
    assert project.prepare().computed() == NOTHING


def test_a_deleted_shard_is_made_again(project: Project) -> None:
    folder = next((project.folder / "store/stages/latents").glob("*/shards"))
    for shard in folder.iterdir():
        shard.unlink()
    count = project.prepare().counts["latents"]
    assert count.computed == count.wanted
    assert project.prepare().computed() == NOTHING


def test_a_damaged_item_is_made_again_when_asked_to_look_deep(project: Project) -> None:
    folder = next((project.folder / "store/stages/latents").glob("*/shards"))
    shard = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[-5] ^= 0xFF
    shard.chmod(0o644)
    shard.write_bytes(data)
    assert project.prepare().computed() == NOTHING
    assert project.prepare("deep=true").computed() == NOTHING | {"latents": 1}
    assert project.prepare("deep=true").computed() == NOTHING


def test_the_plan_says_what_the_run_does(tmp_path: Path, tiny_models: TinyModels) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    plan = project.plan()["stages"]
    assert not (project.folder / "store").exists(), "a plan writes nothing"
    done = project.prepare().counts
    assert done.keys() - plan.keys() == {"masks"}, "no concept has masks"
    for name, counts in ((name, done[name]) for name in plan):
        if plan[name]["exact"]:
            assert plan[name]["computed"] == counts.computed, name
        else:
            assert plan[name]["computed"] >= counts.computed, name
    assert [name for name in plan if not plan[name]["exact"]] == ["latents"]


def samples_of(prepared: Prepared, name: str) -> list[str]:
    return [path for path in prepared.rows["path"].to_pylist() if path.endswith(name)]


def first_digest(project: Project) -> str:
    from storage.store import open_store
    from storage.versions import get_version

    store = open_store(project.config().store.url)
    return get_version(store, "test", 1).content_digest


def test_a_rename_removes_nothing(project: Project) -> None:
    for suffix in (".jpg", ".txt"):
        (project.photos / f"photo1{suffix}").rename(project.photos / f"renamed{suffix}")
    assert {counts.removed for counts in project.prepare().counts.values()} == {0}


def test_touched_files_make_no_new_version(project: Project) -> None:
    for path in project.photos.iterdir():
        make_old(path)
        path.touch()
    after = project.prepare()
    assert after.computed() == NOTHING | {"scan": 3}
    assert not after.created
