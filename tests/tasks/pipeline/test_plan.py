"""A plan says what preparing does, whatever is configured: every stage, count for count."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.config.loading import load_config
from tasks.pipeline.epochs import version_epochs
from tasks.pipeline.plan import plan_pipeline
from tests.model_fixtures import TinyModels
from tests.photos import make_photo
from tests.projects import Prepared, Project, make_old, make_project, prepare
from tests.tasks.pipeline.exporting import CROPS, Exporting

CONCEPT, IMAGE, TEXT = "concepts.0.", "concepts.0.image.", "concepts.0.text."
PHASES = (f"{CROPS}regenerate_each_epoch=true", "train.epochs=3")
VARIED = (f"{CONCEPT}image_variations=3", f"{IMAGE}enable_random_flip=true")
SWEEP: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "no tiles": (f"{CROPS}enabled=false",),
    "phases": PHASES,
    "more phases": (*PHASES, f"{CROPS}grid_phases=5"),
    "variations": VARIED,
    "variations of text": (f"{CONCEPT}text_variations=3", f"{TEXT}enable_tag_shuffling=true"),
    "all at once": (
        *(*VARIED, *PHASES, f"{IMAGE}mask_source=file", f"{IMAGE}enable_random_rotate=true"),
        *(f"{IMAGE}random_rotate_max_angle=8.0", f"{TEXT}tag_dropout_enable=true"),
        *(f"{TEXT}tag_dropout_probability=0.5", 'data.resolution="64,96"'),
    ),
    "masks": (f"{IMAGE}mask_source=file",),
    "two resolutions and a context": (
        'data.resolution="64,96"',
        f"{CROPS}include_context_tiles=true",
    ),
    "no latents": ("data.latent_caching=false", *VARIED),
    "stricter": (f"{CROPS}blank_std_threshold=0.08", *PHASES),
    "looser": (f"{CROPS}blank_std_threshold=0.0", f"{CROPS}scales=[3]"),
    "few of them": (f"{CROPS}tiles_per_source_per_epoch=3", f"{CONCEPT}repeats=0.5"),
    "so many samples": (f"{CONCEPT}samples_per_epoch=7", "train.epochs=4", "data.remainder=drop"),
    "empty prompts": (
        f"{CROPS}uncaptioned_prompt=empty",
        f'{TEXT}prompt_template="art, {{prompt}}"',
    ),
    "another data type": ("data.encode_dtype=bfloat16",),
    "anew": ('refresh=["crops", "text"]',),
}


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Exporting:
    """A project with photos, a mask, an equal file, a broken file and a broken mask."""
    project = make_project(
        tmp_path_factory.mktemp("plans") / "project", tiny_models["sd15"], num_photos=3
    )
    photos = project.photos
    project.add_photo("small", 7, "boat, red sail, dawn", size=(70, 50))
    (photos / "twin.jpg").write_bytes((photos / "photo1.jpg").read_bytes())
    (photos / "broken.jpg").write_bytes(make_photo(80, 80, 4)[:500])
    (photos / "photo2.txt").write_bytes(b"caf\xe9")
    mask = Image.new("L", (160, 112), 0)
    mask.paste(255, (0, 0, 80, 112))
    mask.save(photos / "photo0-masklabel.png")
    (photos / "photo1-masklabel.png").write_bytes(b"no mask")
    for path in photos.iterdir():
        make_old(path)
    (photos / "dangling.jpg").symlink_to(project.folder / "nowhere.jpg")
    return Exporting(project, project.folder / "tiles")


def check(plan: dict[str, Any], done: Prepared) -> None:
    """Every count that the plan calls exact is what was done; the others are upper bounds."""
    for name, counts in done.counts.items():
        if name not in plan["stages"]:
            assert (counts.wanted, counts.rejected) == (0, 0), name
            continue
        told = dict(plan["stages"][name])
        if told["exact"]:
            told.pop("estimate")
            assert told == counts.as_json(), name
        else:
            assert told["computed"] >= counts.computed, name
            assert told["wanted"] >= counts.wanted, name
    exact = all(stage["exact"] for stage in plan["stages"].values())
    samples = plan["dataset"]["num_samples"]
    assert (samples == done.version.num_samples) if exact else (samples >= done.version.num_samples)


@pytest.mark.parametrize("name", SWEEP)
def test_a_plan_is_what_preparing_does(exporting: Exporting, name: str) -> None:
    settings = SWEEP[name]
    plan = exporting.project.plan(*settings)
    done = exporting.project.prepare(*settings)
    check(plan, done)
    again = exporting.project.plan(*settings)
    redone = exporting.project.prepare(*settings)
    check(again, redone)
    if name != "anew":
        assert {stage["computed"] for stage in again["stages"].values()} == {0}
    made = version_epochs(exporting.project.config(*settings), redone.version)
    assert made is not None
    assert again["outlook"] == made
    assert not made["at_most"]


def test_edits_exports_and_new_photos_are_planned_too(exporting: Exporting) -> None:
    check(exporting.plan(*VARIED), exporting.prepare(*VARIED))
    edited, broken, gone = exporting.sidecars()[:3]
    edited.write_text("words of my own")
    broken.write_bytes(b"\xff")
    gone.unlink()
    exporting.project.add_photo("late", 21, "boat, green sail")
    plan = exporting.plan(*VARIED)
    done = exporting.prepare(*VARIED)
    check(plan, done)
    assert plan["stages"]["captions"]["computed"] == done.counts["captions"].computed == 1
    assert plan["stages"]["captions"]["rejected"] == 1
    assert done.exported is not None
    assert plan["export"]["written"] >= done.exported.written > 0
    assert {stage["computed"] for stage in exporting.plan(*VARIED)["stages"].values()} == {0}


def test_a_validation_concept_is_planned_and_no_sample(
    exporting: Exporting, tmp_path: Path
) -> None:
    held_out = Project(tmp_path)
    held_out.photos.mkdir()
    held_out.add_photo("held", 30, "a photo that is held out")
    toml = exporting.project.folder / "with_validation.toml"
    toml.write_text(
        exporting.project.run_toml.read_text()
        + f'\n[[concepts]]\nname = "held"\ntype = "validation"\npath = "{held_out.photos}"\n'
    )
    config = load_config(toml, [])
    without = exporting.project.plan()["dataset"]["num_samples"]
    plan = plan_pipeline(config)
    check(plan, prepare(config))
    assert plan["dataset"]["num_samples"] == without
    assert plan["outlook"]["num_rows"] == without


def test_a_plan_writes_nothing(exporting: Exporting) -> None:
    def files() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for path in exporting.project.folder.rglob("*")
            if path.is_file()
        }

    before = files()
    exporting.plan(f"{CROPS}scales=[2, 4]", "data.seed=4", "data.resolution=128")
    assert files() == before
