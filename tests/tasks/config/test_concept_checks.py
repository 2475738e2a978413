"""What is said of concepts that cannot be right."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError

Write = Callable[..., Path]
TEXT, CROPS = "concepts.0.text.", "concepts.0.image.detail_crops."
DROP = f"{TEXT}tag_dropout_enable=true"
WHITE = f"{TEXT}tag_dropout_special_tags_mode=whitelist"
REGEX = f"{TEXT}tag_dropout_special_tags_regex=true"
SAVE = (f"{CROPS}enabled=true", f"{CROPS}save_to_disk=true")
SECOND = "[[concepts]]\nname = 'second'\npath = 'photos'\n"


def problems(file: Path, *options: str) -> dict[str, str]:
    try:
        load_config(file, options, {})
    except ConfigError as error:
        return {problem.key: problem.message for problem in error.problems}
    return {}


@pytest.mark.parametrize(
    ("options", "key", "told"),
    [
        ([f"{TEXT}prompt_template=art"], f"{TEXT}prompt_template", "must contain {prompt}"),
        ([f"{TEXT}prompt_template='{{promt}}'"], f"{TEXT}prompt_template", "unknown placeholder"),
        ([DROP, WHITE], f"{TEXT}tag_dropout_special_tags", "must list tags, since"),
        (
            [DROP, WHITE, REGEX, f'{TEXT}tag_dropout_special_tags=["a", "b("]'],
            f"{TEXT}tag_dropout_special_tags",
            "'b(' is no regular expression: missing )",
        ),
        (
            [DROP, WHITE, f"{TEXT}tag_dropout_special_tags_path=/nowhere/tags.txt"],
            f"{TEXT}tag_dropout_special_tags_path",
            "there is no such file: / holds no nowhere",
        ),
        (["concepts.0.prompt_source=jsonl"], "concepts.0.prompt_path", "holds no metadata.jsonl"),
        (
            ["concepts.0.prompt_source=jsonl", "concepts.0.prompt_path=/nowhere.jsonl"],
            "concepts.0.prompt_path",
            "there is no such file",
        ),
        (
            ["concepts.0.samples_per_epoch=5", "concepts.0.repeats=2"],
            "concepts.0.samples_per_epoch",
            "cannot be set together with repeats = 2",
        ),
        (["concepts.0.type=validation"], "concepts", "only validation concepts"),
        (SAVE, f"{CROPS}save_directory", "must name a folder"),
        ([*SAVE, f"{CROPS}save_directory=s3://b/c"], f"{CROPS}save_directory", "a local folder"),
    ],
)
def test_a_wrong_setting_is_explained(
    write: Write, options: list[str], key: str, told: str
) -> None:
    found = problems(write(), *options)
    assert list(found) == [key]
    assert told in found[key]


@pytest.mark.parametrize(
    "options",
    [
        [f"{TEXT}tag_dropout_probability=0.5", f"{TEXT}caps_randomize_probability=0.5"],
        [WHITE],
        [REGEX, f'{TEXT}tag_dropout_special_tags=["b("]'],
        [DROP, f"{TEXT}tag_dropout_special_tags_path=/nowhere/tags.txt"],
        ["concepts.0.samples_per_epoch=5"],
        ["concepts.0.samples_per_epoch=5", "concepts.0.repeats=1"],
        [f"{CROPS}enabled=true", f"{CROPS}grid_phases=3"],
        [f"{CROPS}save_to_disk=true"],
        [f"{CROPS}save_directory=s3://bucket/tiles"],
        ["concepts.0.prompt_path=/nowhere.txt"],
    ],
)
def test_values_under_a_switch_that_is_off_are_allowed(write: Write, options: list[str]) -> None:
    assert problems(write(), *options) == {}


def test_a_validation_concept_beside_a_standard_one_is_fine(write: Write) -> None:
    file = write(SECOND)
    assert problems(file, "concepts.1.type=validation") == {}
    both = ("concepts.0.type=validation", "concepts.1.type=validation")
    assert "nothing would be trained" in problems(file, *both)["concepts"]


def test_regular_expressions_of_a_file_are_checked(write: Write, project: Path) -> None:
    (project / "tags.txt").write_text("red .*\n*boat\n")
    key = f"{TEXT}tag_dropout_special_tags_path"
    options = (DROP, WHITE, f"{key}={project}/tags.txt")
    assert problems(write(), *options) == {}
    assert "'*boat' is no regular expression" in problems(write(), *options, REGEX)[key]
    (project / "tags.txt").write_bytes(b"\xff")
    assert "cannot be read: not UTF-8 text" in problems(write(), *options)[key]


def test_a_missing_file_of_special_tags_names_its_neighbour(write: Write, project: Path) -> None:
    (project / "tags.txt").touch()
    key = f"{TEXT}tag_dropout_special_tags_path"
    found = problems(write(), DROP, WHITE, f"{key}={project}/tag.txt")
    assert f"did you mean {project / 'tags.txt'}?" in found[key]


def test_each_concept_writes_its_tiles_into_a_folder_of_its_own(
    write: Write, project: Path
) -> None:
    crops = "[concepts.image.detail_crops]\nenabled = true\nsave_to_disk = true\n"
    first = f"{crops}save_directory = 'tiles'\n"
    second = f"{SECOND}{crops}save_directory = "
    key = "concepts.1.image.detail_crops.save_directory"
    assert problems(write(f"{first}{second}'other'\n")) == {}
    assert (
        "concepts.0 writes its tiles there" in problems(write(f"{first}{second}'./tiles'\n"))[key]
    )
    assert "lies in the folder of concepts.0" in problems(write(f"{first}{second}'photos'\n"))[key]
    inside = write(f"{first}{second}'photos/tiles'\n")
    assert problems(inside) == {}
    deep = problems(inside, "concepts.0.include_subdirectories=true")
    assert "lies in the folder of concepts.0" in deep[key]
    hidden = write(f"{first}{second}'photos/.tiles'\n")
    assert problems(hidden, "concepts.0.include_subdirectories=true") == {}
    (project / "taken").touch()
    assert problems(write(f"{first}{second}'taken'\n"))[key] == "is no folder"


def test_jsonl_finds_the_file_in_the_folder(write: Write, project: Path) -> None:
    (project / "photos/metadata.jsonl").touch()
    assert problems(write("prompt_source = 'jsonl'\n")) == {}


def test_paths_of_concepts_are_relative_to_their_file(write: Write, project: Path) -> None:
    (project / "shared/photos").mkdir(parents=True)
    write(
        "prompt_path = 'captions.jsonl'\n[concepts.text]\ntag_dropout_special_tags_path = 'tags'\n"
        "[concepts.image.detail_crops]\nsave_directory = 'tiles'\n",
        name="shared/base.toml",
    )
    top = write(text="extends = 'shared/base.toml'\n[model]\nbase = 'model'\n")
    [concept] = load_config(top, env={}).concepts
    shared = project / "shared"
    assert concept.prompt_path == str(shared / "captions.jsonl")
    assert concept.text.tag_dropout_special_tags_path == str(shared / "tags")
    assert concept.image.detail_crops.save_directory == str(shared / "tiles")
