"""How tags are varied: what stays, what may change, and how often."""

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.concepts import TextConfig
from tasks.wording.special import matcher
from tasks.wording.tags import varies, vary

TAGS = ["Boat", "red sail", "sunset", "calm sea", "old Pier", "gulls"]
PROMPT = ", ".join(TAGS)
NONE = matcher([], regex=False)
words = st.text(alphabet="abcXYZ éß1-", min_size=1).map(str.strip).filter(bool)
tag_lists = st.lists(words, min_size=1, max_size=8)
settings = st.builds(
    TextConfig,
    keep_tags_count=st.integers(0, 4),
    enable_tag_shuffling=st.booleans(),
    tag_dropout_enable=st.booleans(),
    tag_dropout_mode=st.sampled_from(["full", "random", "random_weighted"]),
    tag_dropout_probability=st.floats(0, 1),
    caps_randomize_enable=st.booleans(),
    caps_randomize_probability=st.floats(0, 1),
)


def shown(text: TextConfig, prompt: str = PROMPT, *, key: int = 0) -> list[str]:
    version = vary(prompt, text, NONE, key)
    return version.split(", ") if version else []


def dropping(mode: str, probability: float, **more: object) -> TextConfig:
    values = {"tag_dropout_mode": mode, "tag_dropout_probability": probability, **more}
    return TextConfig.model_validate({"tag_dropout_enable": True, **values})


@given(tag_lists, settings, st.integers(0, 100))
def test_kept_tags_stay_and_nothing_is_invented(
    tags: list[str], text: TextConfig, key: int
) -> None:
    found = shown(text, ", ".join(tags), key=key)
    kept = tags[: text.keep_tags_count]
    assert found[: len(kept)] == kept
    left = Counter(folded(tag) for tag in tags)
    left.subtract(folded(tag) for tag in found)
    assert min(left.values()) >= 0


def folded(tag: str) -> str:
    return " ".join(tag.casefold().split())


@given(tag_lists, st.integers(0, 4), st.integers(0, 100))
def test_a_shuffle_is_a_permutation(tags: list[str], keep: int, key: int) -> None:
    found = shown(
        TextConfig(enable_tag_shuffling=True, keep_tags_count=keep), ",".join(tags), key=key
    )
    assert Counter(found) == Counter(tags)


def test_every_order_is_as_likely() -> None:
    text = TextConfig(enable_tag_shuffling=True)
    orders = Counter(vary("a,b,c,d", text, NONE, key) for key in range(6000))
    assert set(orders) == {f"a, {x}, {y}, {z}" for x, y, z in permutations("bcd")}
    assert 850 < min(orders.values()) <= max(orders.values()) < 1150


@pytest.mark.parametrize("mode", ["full", "random"])
def test_probability_1_drops_all_and_0_drops_nothing(mode: str) -> None:
    for key in range(50):
        assert shown(dropping(mode, 1.0), key=key) == ["Boat"]
        assert shown(dropping(mode, 1.0, keep_tags_count=0), key=key) == []
        assert shown(dropping(mode, 0.0), key=key) == TAGS


def test_full_drops_all_or_none_and_random_drops_each() -> None:
    full = Counter(len(shown(dropping("full", 0.3), key=key)) for key in range(3000))
    assert set(full) == {1, len(TAGS)}
    assert 800 < full[1] < 1000
    each = Counter(tag for key in range(3000) for tag in shown(dropping("random", 0.3), key=key))
    assert each["Boat"] == 3000
    assert all(2000 < each[tag] < 2200 for tag in TAGS[1:])


def test_weighted_drops_in_proportion_to_the_position_behind_the_kept_tags() -> None:
    text = dropping("random_weighted", 0.8)
    left = Counter(tag for key in range(4000) for tag in shown(text, key=key))
    free = TAGS[1:]
    for position, tag in enumerate(free, start=1):
        expected = 1 - 0.8 * position / len(free)
        assert left[tag] / 4000 == pytest.approx(expected, abs=0.03), tag


@pytest.mark.parametrize("mode", ["full", "random", "random_weighted"])
def test_special_tags(mode: str) -> None:
    special = matcher(["sunset", "gulls"], regex=False)
    white = dropping(mode, 1.0, tag_dropout_special_tags_mode="whitelist")
    black = dropping(mode, 1.0, tag_dropout_special_tags_mode="blacklist")
    for key in range(100):
        kept = vary(PROMPT, white, special, key).split(", ")
        assert {"Boat", "sunset", "gulls"} <= set(kept)
        dropped = set(TAGS) - set(vary(PROMPT, black, special, key).split(", "))
        assert dropped <= {"sunset", "gulls"}
        if mode != "random_weighted":
            assert (set(kept), dropped) == ({"Boat", "sunset", "gulls"}, {"sunset", "gulls"})


def test_a_kept_tag_is_not_dropped_even_when_it_is_special() -> None:
    special = matcher(["Boat"], regex=False)
    black = dropping("random", 1.0, tag_dropout_special_tags_mode="blacklist")
    assert vary(PROMPT, black, special, 0) == PROMPT


def test_special_tags_are_told_by_the_spelling_of_the_prompt() -> None:
    text = dropping("random", 1.0, tag_dropout_special_tags_mode="whitelist")
    lower = text.model_copy(
        update={"caps_randomize_enable": True, "caps_randomize_lowercase": True}
    )
    assert vary(PROMPT, lower, matcher(["old Pier"], regex=False), 0) == "boat, old pier"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("capslock", ["Boat", "RED SAIL", "IT'S"]),
        ("title", ["Boat", "Red Sail", "It's"]),
        ("first", ["Boat", "Red sail", "It's"]),
    ],
)
def test_capitals(mode: str, expected: list[str]) -> None:
    text = TextConfig.model_validate(
        {
            "caps_randomize_enable": True,
            "caps_randomize_probability": 1.0,
            "caps_randomize_mode": [mode],
        }
    )
    assert shown(text, "Boat, red sail, it's") == expected


def test_capitals_are_drawn_per_tag_and_mode() -> None:
    text = TextConfig(caps_randomize_enable=True, caps_randomize_probability=0.5)
    spellings = Counter(shown(text, "a, red sail", key=key)[1] for key in range(4000))
    for written, share in (("red sail", 0.5), ("RED SAIL", 0.125), ("Red Sail", 0.125)):
        assert spellings[written] / 4000 == pytest.approx(share, abs=0.03), written
    mixed = {
        one for one in spellings if one not in ("red sail", "RED SAIL", "Red Sail", "Red sail")
    }
    assert len(mixed) > 50
    assert {one.lower() for one in mixed} == {"red sail"}


def test_lower_case_counts_only_with_its_feature() -> None:
    assert shown(TextConfig(caps_randomize_lowercase=True)) == TAGS
    on = TextConfig(caps_randomize_lowercase=True, caps_randomize_enable=True)
    assert shown(on) == [tag.lower() for tag in TAGS]


@pytest.mark.parametrize(
    "off",
    [
        TextConfig(tag_dropout_probability=1.0, caps_randomize_probability=1.0),
        TextConfig(tag_dropout_enable=True, caps_randomize_enable=True),
    ],
)
def test_a_switch_that_is_off_or_has_no_chance_leaves_the_prompt_as_written(
    off: TextConfig,
) -> None:
    assert not varies(off)
    assert vary("a ,b,,  c", off, NONE, 0) == "a ,b,,  c"


def test_delimiters() -> None:
    text = TextConfig(enable_tag_shuffling=True, keep_tags_count=9)
    assert vary(" a ,b,, c,", text, NONE, 0) == "a, b, c"
    assert vary("a, b;c", text.model_copy(update={"tag_delimiter": ";"}), NONE, 0) == "a, b; c"
    assert vary("a b  c", text.model_copy(update={"tag_delimiter": " "}), NONE, 0) == "a b c"
    assert vary("", text, NONE, 0) == ""


def test_an_effect_changes_no_draw_of_another() -> None:
    both = dropping("random", 0.5, enable_tag_shuffling=True, caps_randomize_enable=True)
    both = both.model_copy(update={"caps_randomize_probability": 0.5})
    only_dropped = dropping("random", 0.5)
    shuffled = TextConfig(enable_tag_shuffling=True)
    capitals = TextConfig(caps_randomize_enable=True, caps_randomize_probability=0.5)
    for key in range(50):
        found = shown(both, key=key)
        lower = [tag.lower() for tag in found]
        assert set(lower) == {tag.lower() for tag in shown(only_dropped, key=key)}
        assert set(found) <= set(shown(capitals, key=key))
        order = [tag.lower() for tag in shown(shuffled, key=key)]
        assert lower == [tag for tag in order if tag in lower]


def test_draws_depend_on_everything_in_the_key_and_on_the_prompt() -> None:
    text = TextConfig(enable_tag_shuffling=True)
    many = ",".join("abcdefghijklmnop")
    keys = [(1, b"s", 0), (2, b"s", 0), (1, b"t", 0), (1, b"s", 1)]
    versions = [vary(many, text, NONE, *key) for key in keys]
    assert len(set(versions)) == 4
    assert versions == [vary(many, text, NONE, *key) for key in keys]
    other = vary(f"{many},q", text, NONE, *keys[0])
    assert [tag for tag in other.split(", ") if tag != "q"] != versions[0].split(", ")


def test_draws_never_drift() -> None:
    """Golden values: a change gives every cached prompt another version."""
    text = dropping("random", 0.3, enable_tag_shuffling=True, caps_randomize_enable=True)
    text = text.model_copy(update={"caps_randomize_probability": 0.5})
    assert [vary(PROMPT, text, NONE, 7, b"sample", n) for n in range(3)] == GOLDEN


GOLDEN = [
    "Boat, red sail, gulls, sUnsEt, Old Pier, calm sea",
    "Boat, sunset, Calm sea, gulls, ReD sail",
    "Boat, Sunset, calm sea, OLD PIER, Red Sail",
]
