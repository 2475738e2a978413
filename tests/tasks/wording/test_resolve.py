from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from storage.records import K
from tasks.config.models import Config
from tasks.wording.resolve import reduced, resolve_prompts

SCHEMA = pa.schema(
    [
        ("concept", pa.string()),
        ("source_id", K),
        ("prompts", pa.list_(pa.string())),
        ("origin", pa.string()),
    ]
)
CAPTIONS = pa.schema(
    [
        ("concept", pa.string()),
        ("view_id", K),
        ("source_id", K),
        ("kind", pa.string()),
        ("prompts", pa.list_(pa.string())),
        ("origin", pa.string()),
    ]
)
SOURCE = b"s" * 16
SHUFFLE = {"enable_tag_shuffling": True}


def config(**concept: Any) -> Config:
    """One concept c, with these settings."""
    return Config.model_validate(
        {
            "model": {"family": "sd15", "base": "model"},
            "data": {"seed": 7},
            "concepts": [{"name": "c", "path": "photos", **concept}],
        }
    )


def table(schema: pa.Schema, *rows: tuple[Any, ...]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
    )


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def resolve(
    *prompts: tuple[str, bytes, list[str], str],
    kinds: tuple[str, ...] = ("full",),
    captions: tuple[tuple[bytes, list[str], str], ...] = (),
    of_photo: tuple[list[str], str] | None = None,
    settings: Config | None = None,
) -> pa.Table:
    """The resolved samples of one source; the view_id of number n is key(n).

    Generated texts belong to the concept, edited ones to no concept.
    """
    own = [(view, "detail", texts, origin) for view, texts, origin in captions]
    if of_photo is not None:
        own.append((b"w" * 16, "full", *of_photo))
    rows = [
        (None if origin == "edited" else "c", view, SOURCE, kind, texts, origin)
        for view, kind, texts, origin in own
    ]
    keys = pa.array([key(number) for number in range(len(kinds))], K)
    sources = pa.array([SOURCE] * len(kinds), K)
    samples = pa.table(
        {
            "concept": ["c"] * len(kinds),
            "source_id": sources,
            "kind": list(kinds),
            "view_id": keys,
            "key": keys,
        }
    )
    manifests = {"prompts": table(SCHEMA, *prompts), "captions": table(CAPTIONS, *rows)}
    return resolve_prompts(samples, manifests, settings or config())


def test_a_tile_inherits_what_its_full_image_has() -> None:
    rows = resolve(("c", SOURCE, ["one", "two"], "sidecar"), kinds=("full", "detail", "context"))
    assert rows["prompts"].to_pylist() == [["one", "two"]] * 3
    assert rows["prompt_origin"].to_pylist() == ["sidecar", "inherited", "inherited"]
    assert rows["context"].to_pylist() == ["one"] * 3


def test_no_caption_is_the_empty_prompt_and_says_so() -> None:
    template = config(text={"prompt_template": "art, {prompt}"})
    for settings in (config(), template):
        rows = resolve(("c", SOURCE, [""], "none"), kinds=("full", "detail"), settings=settings)
        assert rows["prompts"].to_pylist() == [[""], [""]]
        assert rows["prompt_origin"].to_pylist() == ["none", "none"]


def test_a_tile_without_a_text_of_its_own_may_be_left_without_a_prompt() -> None:
    settings = config(image={"detail_crops": {"uncaptioned_prompt": "empty"}})
    rows = resolve(
        ("c", SOURCE, ["one"], "sidecar"),
        kinds=("full", "detail", "detail"),
        captions=((key(1), ["its own"], "edited"),),
        settings=settings,
    )
    assert rows["prompts"].to_pylist() == [["one"], ["its own"], [""]]
    assert rows["prompt_origin"].to_pylist() == ["sidecar", "edited", "none"]
    assert rows["context"].to_pylist() == ["one"] * 3


def test_an_edited_text_is_final_and_a_generated_one_is_put_into_words_like_any() -> None:
    settings = config(
        text={
            "prompt_template": "art, {prompt}",
            "caps_randomize_enable": True,
            "caps_randomize_lowercase": True,
        }
    )
    rows = resolve(
        ("c", SOURCE, ["One"], "sidecar"),
        kinds=("detail", "detail", "detail"),
        captions=(
            (key(0), ["Mine, B, a"], "edited"),
            (key(1), ["Its, B"], "generated"),
            (key(2), [], "edited"),
        ),
        settings=settings,
    )
    assert rows["prompts"].to_pylist() == [["Mine, B, a"], ["art, its, b"], [""]]
    assert rows["prompt_origin"].to_pylist() == ["edited", "generated", "edited"]


def test_a_caption_takes_the_place_of_the_prompt_or_follows_it() -> None:
    append = config(image={"detail_crops": {"caption_mode": "append"}})
    for settings, expected in (
        (config(), ["rust"]),
        (append, ["one, rust", "two, rust"]),
    ):
        rows = resolve(
            ("c", SOURCE, ["one", "two"], "sidecar"),
            kinds=("full", "detail"),
            captions=((key(1), ["rust"], "generated"),),
            settings=settings,
        )
        assert rows["prompts"].to_pylist() == [["one", "two"], expected]
        assert rows["prompt_origin"].to_pylist() == ["sidecar", "generated"]
        assert rows["context"].to_pylist() == ["one", "one"]


def test_a_caption_that_follows_no_prompt_stands_alone() -> None:
    rows = resolve(
        ("c", SOURCE, [""], "none"),
        kinds=("detail",),
        captions=((key(0), ["rust"], "generated"),),
        settings=config(image={"detail_crops": {"caption_mode": "append"}}),
    )
    assert rows["prompts"].to_pylist() == [["rust"]]


def test_an_appended_caption_keeps_the_draw_of_a_line() -> None:
    lines = [f"line {number}" for number in range(20)]
    append = config(image={"detail_crops": {"caption_mode": "append"}})
    source, kinds = ("c", SOURCE, lines, "text_file"), ("detail",) * 10
    captions = tuple((key(number), ["rust"], "generated") for number in range(10))
    prompts = resolve(source, kinds=kinds, captions=captions, settings=append)["prompts"]
    assert {len(texts) for texts in prompts.to_pylist()} == {1}
    assert all(texts[0].startswith("line ") for texts in prompts.to_pylist())
    assert len({texts[0] for texts in prompts.to_pylist()}) > 3


@pytest.mark.parametrize("origin", ["generated", "edited"])
def test_the_text_of_a_whole_photo_is_its_prompt_and_tiles_inherit_it(origin: str) -> None:
    rows = resolve(
        ("c", SOURCE, [""], "none"),
        kinds=("full", "detail", "detail"),
        captions=((key(2), ["its own"], "generated"),),
        of_photo=(["a harbour"], origin),
    )
    assert rows["prompts"].to_pylist() == [["a harbour"], ["a harbour"], ["its own"]]
    assert rows["prompt_origin"].to_pylist() == [origin, "inherited", "generated"]
    assert rows["context"].to_pylist() == ["", "", ""]


def test_a_photo_with_a_prompt_keeps_it() -> None:
    rows = resolve(("c", SOURCE, ["one"], "sidecar"), of_photo=(["a harbour"], "generated"))
    assert rows["prompts"].to_pylist() == [["one"]]


def test_what_a_person_wrote_counts_more_than_what_a_model_said() -> None:
    rows = resolve(
        ("c", SOURCE, ["one"], "sidecar"),
        kinds=("detail",),
        captions=((key(0), ["hers"], "edited"), (key(0), ["its"], "generated")),
    )
    assert rows["prompts"].to_pylist() == [["hers"]]


def test_lines_of_a_text_file_are_drawn_per_sample_and_variation() -> None:
    lines = [f"line {number}" for number in range(50)]
    source = ("c", SOURCE, lines, "text_file")
    kinds = ("full",) * 20
    once = resolve(source, kinds=kinds)["prompts"].to_pylist()
    assert {len(prompts) for prompts in once} == {1}
    assert len({prompts[0] for prompts in once}) > 5
    assert once == resolve(source, kinds=kinds)["prompts"].to_pylist()
    more = resolve(source, kinds=kinds, settings=config(text_variations=4))["prompts"].to_pylist()
    assert [prompts[0] for prompts in more] == [prompts[0] for prompts in once]
    assert {len(prompts) for prompts in more} == {4}
    assert resolve(source)["context"].to_pylist() == ["line 0"]


def test_every_prompt_has_its_variations() -> None:
    source = ("c", SOURCE, ["a, b, c, d, e", "v, w, x, y, z"], "sidecar")
    settings = config(text=SHUFFLE, text_variations=3)
    rows = resolve(source, kinds=("full", "detail"), settings=settings)
    for prompts in rows["prompts"].to_pylist():
        assert [prompt[0] for prompt in prompts] == ["a"] * 3 + ["v"] * 3
        assert len(set(prompts)) == 6
    assert rows["prompts"][0] != rows["prompts"][1], "each sample draws for itself"
    assert rows["context"].to_pylist() == ["a, b, c, d, e"] * 2


def test_the_first_variations_stay_when_more_are_asked_for() -> None:
    source = ("c", SOURCE, ["a, b, c, d, e, f, g"], "sidecar")
    two, five = (
        resolve(source, settings=config(text=SHUFFLE, text_variations=count))["prompts"][0].as_py()
        for count in (2, 5)
    )
    assert five[:2] == two


def test_variations_count_only_when_something_is_drawn() -> None:
    source = ("c", SOURCE, ["one", "two"], "sidecar")
    assert resolve(source, settings=config(text_variations=9))["prompts"].to_pylist() == [
        ["one", "two"]
    ]


def test_a_version_is_as_likely_as_it_was_drawn() -> None:
    text = {"tag_dropout_enable": True, "tag_dropout_probability": 0.1}
    settings = config(text=text, text_variations=10)
    source = ("c", SOURCE, ["a, b"], "sidecar")
    drawn = resolve(source, kinds=("full",) * 500, settings=settings)["prompts"].to_pylist()
    shares = [prompts.count("a") / len(prompts) for prompts in drawn]
    assert sum(shares) / 500 == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [("aaaa", "a"), ("abab", "ab"), ("aab", "aab"), ("baaabaaa", "baaa"), ("", "")],
)
def test_prompts_are_reduced_to_equal_shares(prompts: str, expected: str) -> None:
    assert reduced(list(prompts)) == list(expected)
    whole, short = Counter(prompts), Counter(expected)
    assert all(whole[one] * len(expected) == short[one] * len(prompts) for one in whole)


def test_a_validation_concept_has_its_first_prompt_and_no_draws() -> None:
    settings = config(
        type="validation",
        text_variations=3,
        text={**SHUFFLE, "prompt_template": "{concept}: {prompt}"},
    )
    rows = resolve(("c", SOURCE, ["a,b,c", "d,e"], "sidecar"), settings=settings)
    assert rows["prompts"].to_pylist() == [["c: a,b,c"]]


def test_the_context_is_the_first_prompt_as_written() -> None:
    settings = config(text={**SHUFFLE, "prompt_template": "art, {prompt}"})
    rows = resolve(("c", SOURCE, ["a,b,c"], "sidecar"), settings=settings)
    assert rows["context"].to_pylist() == ["a,b,c"]
    assert rows["prompts"][0].as_py()[0].startswith("art, a, ")


def test_equal_files_pool_their_prompts_without_doubles() -> None:
    rows = resolve(
        ("c", SOURCE, [""], "none"),
        ("c", SOURCE, ["one", "two"], "sidecar"),
        ("c", SOURCE, ["two", "three"], "sidecar"),
    )
    assert rows["prompts"].to_pylist() == [["one", "two", "three"]]
    assert rows["prompt_origin"].to_pylist() == ["sidecar"]
