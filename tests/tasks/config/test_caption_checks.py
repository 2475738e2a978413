"""What is said of caption settings that cannot be right, and where nothing is said of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError

Write = Callable[..., Path]
CROPS = "concepts.0.image.detail_crops."
ON = (f"{CROPS}enabled=true", f"{CROPS}enable_captioning=true")
PHOTOS = (f"{CROPS}caption_full_images=true",)


def problems(file: Path, *options: str) -> dict[str, str]:
    try:
        load_config(file, options, {})
    except ConfigError as error:
        return {problem.key.removeprefix(CROPS): problem.message for problem in error.problems}
    return {}


WRONG = [
    ("caption_user_prompt='{index}'", "caption_user_prompt", "unknown placeholder {index}"),
    ("caption_user_prompt='a {context'", "caption_user_prompt", "a brace without its partner"),
    ("caption_user_prompt='{scale:.2f}'", "caption_user_prompt", "unknown placeholder {scale:.2f}"),
    ("caption_endpoint=[]", "caption_endpoint", "must name a server"),
    ("caption_endpoint=localhost:11434", "caption_endpoint", "must be the address of a server"),
    ("caption_endpoint=ftp://a", "caption_endpoint", "must be the address of a server"),
    ("caption_endpoint=http://a:99999", "caption_endpoint", "is no address of a server"),
    ("caption_endpoint=http://me:secret@a", "caption_endpoint", "must hold no credentials"),
    ('caption_endpoint=["http://a", "http://a/"]', "caption_endpoint", "names 'http://a/' twice"),
    ("caption_json_schema='{'", "caption_json_schema", "must be JSON"),
    ("caption_json_schema='[]'", "caption_json_schema", "the JSON schema of an object"),
    ("""caption_json_schema='{"type": "object"}'""", "caption_json_schema", "must name what"),
    (
        """caption_json_schema='{"type": "object", "properties": {"a": {}}, "required": true}'""",
        "caption_json_schema",
        "must list",
    ),
    ("caption_timeout=0", "caption_timeout", "greater than 0"),
    ("caption_parallel=0", "caption_parallel", "greater than or equal to 1"),
    ("caption_probability=1.5", "caption_probability", "less than or equal to 1"),
    ("caption_protocol=olama", "caption_protocol", 'did you mean "ollama"?'),
]


@pytest.mark.parametrize("switch", [ON, PHOTOS], ids=["tiles", "photos"])
@pytest.mark.parametrize(("option", "key", "told"), WRONG, ids=[option for option, *_ in WRONG])
def test_each_mistake_is_told_with_its_place(
    write: Write, switch: tuple[str, ...], option: str, key: str, told: str
) -> None:
    found = problems(write(), *switch, f"{CROPS}{option}")
    assert list(found) == [key]
    assert told in found[key]
    assert "secret" not in found[key]


@pytest.mark.parametrize("options", [(), (ON[0],), (ON[1],)])
def test_values_under_a_switch_that_is_off_are_allowed(
    write: Write, options: tuple[str, ...]
) -> None:
    wrong = (f"{CROPS}caption_user_prompt='{{index}}'", f"{CROPS}caption_endpoint=[]")
    assert problems(write(), *options, *wrong) == {}


def test_one_server_may_be_written_without_a_list(write: Write) -> None:
    file = write()
    for text, expected in (
        ("http://a:1", ("http://a:1",)),
        ('"http://a:1"', ("http://a:1",)),
        ('["http://a:1", "https://b/v1"]', ("http://a:1", "https://b/v1")),
    ):
        config = load_config(file, (*ON, f"{CROPS}caption_endpoint={text}"), {})
        assert config.concepts[0].image.detail_crops.caption_endpoint == expected


def test_a_prompt_may_hold_braces_that_are_written_twice(write: Write) -> None:
    assert problems(write(), *ON, f"{CROPS}caption_user_prompt='{{{{x}}}} {{context}}'") == {}
