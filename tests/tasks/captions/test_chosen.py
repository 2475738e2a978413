"""Which tiles are captioned, what is asked about them, and which answers are the same."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.captions.chosen import NO_CONTEXT, Target, asked, is_chosen, rendered, sent_size
from tasks.config.concepts import DetailCrops
from tasks.imaging.views import View

VIEW = View("detail", 2.0, (183, 128), (119, 64, 64, 64), (64, 64))
TARGET = Target(
    concept="photos",
    path="/some/where/photo 1.jpg",
    source_id=b"s" * 16,
    view_id=b"v" * 16,
    view=VIEW,
    logical="photos|photo 1.jpg|...",
    certain=True,
    context="a boat",
)
WHOLE = replace(TARGET, view=View("full", 1.0, (160, 112), (0, 0, 160, 112), (160, 112)))


def crops(**changes: Any) -> DetailCrops:
    return DetailCrops(**({"enabled": True, "enable_captioning": True} | changes))


def tile(number: int, **changes: Any) -> Target:
    view_id = hashlib.sha256(f"tile {number}".encode()).digest()[:16]
    return replace(TARGET, view_id=view_id, **changes)


TILES = [tile(number) for number in range(4000)]


def chosen(probability: float, seed: int = 0, **changes: Any) -> set[bytes]:
    settings = crops(caption_probability=probability, **changes)
    return {one.view_id for one in TILES if is_chosen(seed, one, settings)}


def test_none_and_all() -> None:
    assert chosen(0.0) == set()
    assert chosen(1.0) == {one.view_id for one in TILES}


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.2, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_the_share_is_about_right(probability: float, seed: int) -> None:
    # Five standard deviations of a binomial distribution.
    expected = probability * len(TILES)
    slack = 5 * (expected * (1 - probability)) ** 0.5
    assert abs(len(chosen(probability, seed)) - expected) < slack


def test_the_share_of_every_photo_is_about_right() -> None:
    """A photo of 200 tiles gets neither none nor all of its share."""
    settings = crops(caption_probability=0.2)
    for start in range(0, len(TILES), 200):
        count = sum(is_chosen(0, one, settings) for one in TILES[start : start + 200])
        assert 10 < count < 75


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1), st.binary(min_size=16, max_size=16))
def test_a_higher_probability_only_adds(seed: int, one: float, two: float, view: bytes) -> None:
    low, high = sorted((one, two))
    target = replace(TARGET, view_id=view)
    if is_chosen(seed, target, crops(caption_probability=low)):
        assert is_chosen(seed, target, crops(caption_probability=high))


def test_a_higher_probability_adds_to_a_real_share() -> None:
    shares = [chosen(probability) for probability in (0.1, 0.2, 0.3, 0.7, 1.0)]
    for few, more in zip(shares, shares[1:], strict=False):
        assert few < more


def test_another_seed_is_another_choice() -> None:
    first, second = chosen(0.2, seed=1), chosen(0.2, seed=2)
    assert first != second
    # As independent choices: about 4 % of all are in both.
    assert 0.02 * len(TILES) < len(first & second) < 0.06 * len(TILES)


def test_the_choice_depends_on_the_view_and_the_seed_alone() -> None:
    settings = crops(caption_probability=0.5)
    others = {
        "concept": "another",
        "path": "/else/where.jpg",
        "source_id": b"t" * 16,
        "logical": "else",
        "certain": False,
        "context": "a train",
    }
    changed = crops(
        caption_probability=0.5,
        caption_model="another",
        caption_user_prompt="What?",
        caption_image_px=32,
        overlap=3,
        scales=[4],
    )
    for number in range(200):
        expected = is_chosen(7, tile(number), settings)
        assert is_chosen(7, tile(number, **others), changed) == expected


def test_tiles_are_captioned_where_it_is_asked_for() -> None:
    assert is_chosen(0, TARGET, crops(caption_probability=1))
    assert not is_chosen(0, TARGET, crops(caption_probability=1, enable_captioning=False))
    assert not is_chosen(0, TARGET, crops(caption_probability=1, enabled=False))
    only_photos = crops(caption_probability=1, enable_captioning=False, caption_full_images=True)
    assert not is_chosen(0, TARGET, only_photos)


def test_photos_are_captioned_where_it_is_asked_for_whatever_the_share() -> None:
    assert not is_chosen(0, WHOLE, crops(caption_probability=1))
    settings = crops(caption_probability=0, caption_full_images=True, enabled=False)
    assert is_chosen(0, WHOLE, settings)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{context}", "a boat"),
        ("{concept}: {file_name}", "photos: photo 1.jpg"),
        ("x{scale} at {rect}", "x2 at 119,64,64,64"),
        ("{{context}} {context}{context}", "{context} a boata boat"),
        ("no placeholder", "no placeholder"),
    ],
)
def test_what_is_put_into_a_template(template: str, text: str) -> None:
    assert rendered(template, TARGET) == text


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ("", NO_CONTEXT),
        (" \n ", NO_CONTEXT),
        (" a \n\tboat ", "a boat"),
        ("{concept} {0} {context.__class__} }{ {", "{concept} {0} {context.__class__} }{ {"),
        ("%s %(context)s $context \\n", "%s %(context)s $context \\n"),
        ("cafe\u0301", "café"),
    ],
)
def test_what_a_photo_says_is_put_in_as_it_is(context: str, text: str) -> None:
    assert rendered("About: {context}", replace(TARGET, context=context)) == f"About: {text}"


def test_names_with_braces_are_put_in_as_they_are() -> None:
    hostile = replace(TARGET, concept="{context}", path="/a/{rect}{.jpg")
    assert rendered("{concept} {file_name}", hostile) == "{context} {rect}{.jpg"


@given(st.text(), st.text(min_size=1), st.sampled_from(["{context}", "{concept}", "{file_name}"]))
def test_nothing_that_is_put_in_breaks_it(context: str, name: str, place: str) -> None:
    hostile = replace(TARGET, context=context, concept=name, path=f"/x/{name}")
    assert isinstance(rendered(f"{place}|{place}", hostile), str)


def test_a_scale_is_written_as_people_write_it() -> None:
    for scale, text in ((2.0, "2"), (1.5, "1.5"), (0.25, "0.25")):
        assert rendered("{scale}", replace(TARGET, view=replace(VIEW, scale=scale))) == text


@pytest.mark.parametrize(
    ("size", "long_px", "sent"),
    [
        *[((64, 64), 768, (64, 64)), ((768, 768), 768, (768, 768)), ((769, 769), 768, (768, 768))],
        *[((1024, 768), 512, (512, 384)), ((768, 1024), 512, (384, 512))],
        *[((10_000, 10), 100, (100, 1)), ((10, 10_000), 100, (1, 100)), ((1, 1), 16, (1, 1))],
    ],
)
def test_the_size_that_is_sent(size: tuple[int, int], long_px: int, sent: tuple[int, int]) -> None:
    assert sent_size(size, long_px) == sent


@given(st.integers(1, 100_000), st.integers(1, 100_000), st.integers(16, 4096))
def test_pictures_are_never_enlarged_and_keep_their_shape(
    width: int, height: int, long_px: int
) -> None:
    sent = sent_size((width, height), long_px)
    assert 1 <= sent[0] <= width
    assert 1 <= sent[1] <= height
    assert max(sent) == min(long_px, max(width, height))
    assert abs(sent[0] * height - sent[1] * width) <= max(width, height)


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
BASE = crops(caption_model="tiny")


def key(settings: DetailCrops = BASE, target: Target = TARGET, digest: str = "d" * 64) -> bytes:
    return asked(target, settings, digest).key(target.view_id)


CHANGING = {
    "model": key(crops(caption_model="other")),
    "tag": key(crops(caption_model="tiny:1b")),
    "protocol": key(crops(caption_model="tiny", caption_protocol="openai")),
    "digest": key(digest="e" * 64),
    "view": key(target=replace(TARGET, view_id=b"w" * 16)),
    "system": key(crops(caption_model="tiny", caption_system_prompt="Be short.")),
    "user": key(crops(caption_model="tiny", caption_user_prompt="What?")),
    "context": key(target=replace(TARGET, context="a train")),
    "temperature": key(crops(caption_model="tiny", caption_temperature=0.5)),
    "tokens": key(crops(caption_model="tiny", caption_max_tokens=99)),
    "size": key(crops(caption_model="tiny", caption_image_px=32)),
    "schema": key(crops(caption_model="tiny", caption_json_schema=json.dumps(SCHEMA))),
    "order of a schema": key(
        crops(
            caption_model="tiny",
            caption_json_schema=json.dumps(
                SCHEMA | {"properties": dict(reversed(SCHEMA["properties"].items()))}  # type: ignore
            ),
        )
    ),
}
KEEPING = {
    "spelling of the model": crops(caption_model="Tiny:latest"),
    "endpoint": crops(caption_model="tiny", caption_endpoint=["http://a:1", "http://b:2"]),
    "probability": crops(caption_model="tiny", caption_probability=0.9),
    "mode": crops(caption_model="tiny", caption_mode="append"),
    "patience": crops(caption_model="tiny", caption_timeout=5, caption_max_retries=1),
    "parallel": crops(caption_model="tiny", caption_parallel=3),
    "least success": crops(caption_model="tiny", caption_min_success=0.1),
    "pull": crops(caption_model="tiny", caption_auto_pull=False),
    "photos": crops(caption_model="tiny", caption_full_images=True),
    "size that does not matter": crops(caption_model="tiny", caption_image_px=64),
    "zero as a whole number": crops(caption_model="tiny", caption_temperature=0),
    "uncaptioned": crops(caption_model="tiny", uncaptioned_prompt="empty"),
}


def test_whatever_decides_an_answer_is_in_its_key() -> None:
    keys = [key(), *CHANGING.values()]
    assert len({*keys}) == len(keys)
    assert all(len(one) == 16 for one in keys)


@pytest.mark.parametrize("name", KEEPING)
def test_nothing_else_is_in_the_key(name: str) -> None:
    assert key(KEEPING[name]) == key()


@pytest.mark.parametrize(
    "changes",
    [
        {"concept": "another", "logical": "another"},
        {"path": "/else/where.jpg"},
        {"certain": False},
        {"context": " a \n boat "},
        {"view": replace(VIEW, scale=3.0)},
    ],
)
def test_where_a_tile_is_found_is_not_in_the_key(changes: dict[str, Any]) -> None:
    assert key(target=replace(TARGET, **changes)) == key()


def test_what_a_template_does_not_use_is_not_in_the_key() -> None:
    settings = crops(caption_model="tiny", caption_user_prompt="What is it?")
    assert key(settings, replace(TARGET, context="a train")) == key(settings)
    same = crops(caption_model="tiny", caption_user_prompt="What is {concept}?")
    assert key(same, replace(TARGET, concept="it")) == key(settings)


def test_the_same_schema_may_be_written_in_another_way() -> None:
    keys = {
        key(crops(caption_model="tiny", caption_json_schema=json.dumps(SCHEMA, indent=indent)))
        for indent in (None, 1, 4)
    }
    assert len(keys) == 1


def test_names_of_models_of_the_other_protocol_are_told_apart_by_case() -> None:
    keys = {key(crops(caption_model=name, caption_protocol="openai")) for name in ("Tiny", "tiny")}
    assert len(keys) == 2


def test_labels_are_for_people() -> None:
    assert TARGET.label == "/some/where/photo 1.jpg, detail x2 at 119,64 of 183x128"
    assert WHOLE.label == "/some/where/photo 1.jpg"
