from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.caption_checks import caption_problems
from tasks.config.concepts import SYSTEM_PROMPT, USER_PROMPT, DetailCrops
from tasks.config.problems import Problem
from tasks.config.schema import Place, dotted
from tasks.onetrainer.caption_rows import CAPTIONS, user_prompt
from tasks.onetrainer.convert import CONCEPT_ROWS
from tasks.onetrainer.paths import Paths
from tasks.onetrainer.rows import Left, View, answers
from tasks.wording.template import CAPTION_NAMES, check_template
from tests.tasks.onetrainer.onetrainer_files import SDXL_LORA, OneTrainer, Result, concept
from tests.tasks.onetrainer.onetrainer_files import detail_crops as saved

PREFIX = "concepts.0.image.detail_crops."


def imported(onetrainer: OneTrainer, **said: Any) -> Result:
    """The import of a concept with captions switched on; our own checks have nothing against it."""
    image = saved(**{"enable_captioning": True, **said})
    result = onetrainer.imported(SDXL_LORA, [concept(name="a", image=image)])
    assert not list(caption_problems(result.config.concepts[0], (), _problem))
    return result


def crops(result: Result) -> DetailCrops:
    return result.config.concepts[0].image.detail_crops


def _problem(place: Place, message: str, *_: str) -> Problem:
    return Problem(dotted(place), message)


def test_captions_come_over_and_are_trained(onetrainer: OneTrainer) -> None:
    said = {
        "enable_captioning": True,
        "caption_probability": 0.5,
        "caption_model": "llava:7b",
        "caption_system_prompt": "You tag {crops}.",
        "caption_user_prompt": "About: {context}",
        "caption_timeout": 30.0,
        "caption_max_retries": 2,
        "caption_auto_pull": True,
    }
    result = imported(onetrainer, **said)
    ours = crops(result).model_dump()
    assert {key: ours[key] for key in said} == said
    assert (ours["caption_mode"], ours["caption_image_px"]) == ("replace", 512)
    assert (ours["caption_protocol"], ours["caption_max_tokens"]) == ("ollama", 256)
    assert "never reach the training" in result.comment("caption_mode")
    assert "as PNG" in result.comment("caption_image_px")
    assert not any(key.startswith(PREFIX) for key in result.left)


def test_nothing_is_said_of_captions_that_are_off(onetrainer: OneTrainer) -> None:
    result = imported(
        onetrainer, enable_captioning=False, caption_probability=0.7, caption_user_prompt=""
    )
    table = result.toml["concepts"][0]["image"]["detail_crops"]
    assert [key for key in table if "caption" in key] == ["uncaptioned_prompt"]
    assert not any(key.startswith(PREFIX) for key in result.left)


def test_captions_need_no_tiles_on_disk(onetrainer: OneTrainer) -> None:
    result = imported(onetrainer, save_to_disk=False, save_directory="")
    assert "save" not in result.text
    kept = imported(onetrainer, save_to_disk=True, save_directory="crops")
    assert crops(kept).save_to_disk


@pytest.mark.parametrize(
    ("said", "ours", "note"),
    [
        ({"caption_timeout": 0}, 120.0, "was 0, which the fork reads as 120"),
        ({"caption_max_retries": 0}, 4, "was 0, which the fork reads as 4"),
        ({"caption_max_tokens": 0}, 256, "was 0, which the fork reads as 256"),
        ({"caption_max_tokens": 99}, 99, "the fork always takes 256"),
        ({"caption_probability": 7}, 1.0, "was 7, which the fork reads as 1"),
        ({"caption_probability": -1}, 0.0, "which the fork reads as 0"),
        ({"caption_model": ""}, "qwen2.5vl:3b", "was empty, which the fork reads as"),
        ({"caption_auto_pull": False}, False, "the fork does it all the same"),
    ],
)
def test_values_mean_what_the_fork_makes_of_them(
    onetrainer: OneTrainer, said: dict[str, Any], ours: object, note: str
) -> None:
    result = imported(onetrainer, **said)
    (key,) = said
    assert getattr(crops(result), key) == ours
    assert note in result.comment(key)


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ("http://localhost:11434", "http://localhost:11434"),
        ("https://gpu.example/ollama", "https://gpu.example/ollama"),
        (" gpu:11434 ", "http://gpu:11434"),
        ("", "http://localhost:11434"),
        ("ftp://gpu", "http://localhost:11434"),
        ("http://me:hunter2@gpu:11434", "http://localhost:11434"),
        ("http://me:hunter2", "http://localhost:11434"),
        ("http://gpu/?key=hunter2", "http://localhost:11434"),
        ("http://[", "http://localhost:11434"),
    ],
)
def test_the_server_is_one_of_your_own(onetrainer: OneTrainer, said: str, ours: str) -> None:
    result = imported(onetrainer, caption_endpoint=said)
    assert crops(result).caption_endpoint == (ours,)
    assert "start Ollama there" in result.comment("caption_endpoint")
    assert "hunter2" not in result.text


@pytest.mark.parametrize("empty", ["", " \n"])
def test_empty_prompts_leave_ours(onetrainer: OneTrainer, empty: str) -> None:
    result = imported(onetrainer, caption_system_prompt=empty, caption_user_prompt=empty)
    ours = crops(result)
    assert (ours.caption_system_prompt, ours.caption_user_prompt) == (SYSTEM_PROMPT, USER_PROMPT)
    for key in ("caption_system_prompt", "caption_user_prompt"):
        assert result.left[PREFIX + key].startswith("different: a model needs to be told"), key


def test_prompts_that_a_file_does_not_say_are_ours(onetrainer: OneTrainer) -> None:
    result = imported(onetrainer, caption_system_prompt=None, caption_user_prompt=None)
    assert (crops(result).caption_system_prompt, crops(result).caption_user_prompt) == (
        SYSTEM_PROMPT,
        USER_PROMPT,
    )
    assert not any(key.startswith(PREFIX) for key in result.left)


def test_a_prompt_of_which_nothing_is_left_is_told(onetrainer: OneTrainer) -> None:
    result = imported(onetrainer, caption_user_prompt="{index}")
    assert crops(result).caption_user_prompt == USER_PROMPT
    assert result.left[f"{PREFIX}caption_user_prompt"].startswith("different: the value")


@pytest.mark.parametrize(
    ("theirs", "ours", "note"),
    [
        ("Tags, at most 30.\nContext: {context}", "Tags, at most 30.\nContext: {context}", ""),
        ("{{literal}} {context}", "{{literal}} {context}", ""),
        ("at {coords}", "at {rect}", "{coords} is {rect} here: left, top"),
        ("of {image_path}", "of {file_name}", "{image_path} is {file_name} here, without folders"),
        ("x{scale}", "x{scale}", "{scale} multiplies the training resolution here"),
        ("a {crop_type} crop", "a detail crop", '{crop_type} is the word "detail" here'),
        ("Tile #{index} at", "Tile at", "{index} is left out"),
        ("of a {source_resolution} photo", "of a full size photo", "numbers are not known"),
        ("{scale:.2f}{context!r}", "{scale}{context}", "{context!r} has no format here"),
        ("row {coords[0]}", "row {rect}", "{coords[0]} has no format here"),
        # What the fork does not know stays as it is written, our own names too.
        ("{mood} {rect} {concept}", "{{mood}} {{rect}} {{concept}}", "are written twice"),
        ('{"tags": {"a": "{context}"}}', '{{"tags": {{"a": "{context}"}}}}', "written twice"),
        ("{} {0}", "{{}} {{0}}", "written twice"),
        # The fork fails on these.
        ("a } in {context}", "a }} in {context}", "written twice"),
        ("{{a}} { {coords}", "{{{{a}}}} {{ {rect}", "written twice"),
    ],
)
def test_placeholders_become_ours_or_words(
    onetrainer: OneTrainer, theirs: str, ours: str, note: str
) -> None:
    result = imported(onetrainer, caption_user_prompt=theirs)
    assert crops(result).caption_user_prompt == ours
    assert note in result.comment("caption_user_prompt")
    assert bool(result.comment("caption_user_prompt")) is bool(note)


@given(st.text("{}!:[]. #a") | st.from_regex(r"([a ]|\{(context|scale|coords|a)\}|\{\{|\}\})*"))
def test_our_settings_take_every_prompt(text: str) -> None:
    check_template(user_prompt(text)[0], CAPTION_NAMES)


@given(st.from_regex(r"(x| |\{(context|scale|mood)\}|\{\{|\}\})*", fullmatch=True))
def test_a_model_is_asked_what_the_fork_asked(text: str) -> None:
    known = {"context": "a boat", "scale": "2"}
    theirs = "".join(
        before + ("" if name is None else known.get(name, f"{{{name}}}"))
        for before, name, *_ in Formatter().parse(text)
    )
    assert user_prompt(text)[0].format(**known) == theirs


@pytest.mark.parametrize("value", ["rubbish", -1, 1e308, [], [None], {"a": 1}, True])
def test_no_value_breaks_a_row(value: object) -> None:
    here = Paths(Path("/nowhere"), Path("/nowhere"))
    facts = {"multiple": 8, "resolution": "512", "folder": "a"}
    for key, row in CAPTIONS.items():
        said = {"image.detail_crops.enable_captioning": True, key: value}
        view = View(said, CONCEPT_ROWS, here, facts=facts)
        for answer in answers(row, view[key], view):
            assert not isinstance(answer, Left) or answer.why, key
