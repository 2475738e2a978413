import io
import math
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.digest import (
    canonical_json,
    digest,
    digest_bytes,
    digest_file,
    digest_json,
    hexkey,
    without_defaults,
)

PART = st.one_of(st.binary(max_size=8), st.text(max_size=8), st.integers())
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), FINITE, st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


def test_golden_values() -> None:
    """These orphan every cache when they change: never edit them, add a new domain."""
    assert hexkey(digest("view/1", b"abc", "text", 7)) == "c5ce122175a7a0642f6a9e562114ce36"
    assert (
        hexkey(digest_json("stage/1", {"b": [1, 2.5, None], "a": "é"}))
        == "c09a40ce7c0fb7f33f77ac67fbd680ab"
    )
    assert hexkey(digest_bytes(b"")) == "af1349b9f5f9a1a6a0404dea36dcc949"


@given(st.lists(PART, max_size=4), st.lists(PART, max_size=4))
def test_different_parts_have_different_digests(first: list, second: list) -> None:
    def same(one: object, other: object) -> bool:
        return type(one) is type(other) and one == other

    equal = len(first) == len(second) and all(map(same, first, second))
    assert (digest("d", *first) == digest("d", *second)) is equal


@given(st.text(max_size=6), st.text(max_size=6))
def test_the_border_between_parts_counts(one: str, two: str) -> None:
    assert digest("d", one, two) != digest("d", one + two)
    assert digest("d", one) != digest("e", one)


def test_only_plain_parts_are_hashed() -> None:
    for part in (1.5, True, None, ("a",)):
        with pytest.raises(TypeError):
            digest("d", part)  # type: ignore[arg-type]
    assert digest("d", "\udcff") != digest("d", "\udcfe")


@given(JSON)
@settings(max_examples=200)
def test_canonical_json_is_a_fixed_point(value: object) -> None:
    import json

    try:
        text = canonical_json(value)
    except ValueError:
        return  # two keys are one after NFC
    assert canonical_json(json.loads(text)) == text


@given(st.dictionaries(st.text("abcdef", max_size=3), JSON, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_count(value: dict, random) -> None:  # type: ignore[no-untyped-def]
    names = list(value)
    random.shuffle(names)
    assert digest_json("d", {name: value[name] for name in names}) == digest_json("d", value)


def test_spellings_of_one_value_are_one_key() -> None:
    assert canonical_json({"s": 2.0, "t": (1, -0.0)}) == '{"s":2,"t":[1,0]}'
    assert canonical_json(unicodedata.normalize("NFD", "é")) == canonical_json("é")
    assert canonical_json(True) != canonical_json(1)
    assert canonical_json(1e300) == "1e+300"


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"é": 1, "e\u0301": 2}])
def test_values_without_a_form_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_json(value)


@pytest.mark.parametrize("value", [b"x", {1: 2}, {"a": {1, 2}}])
def test_what_json_lacks_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_a_new_field_with_its_default_changes_no_key() -> None:
    defaults = {"angle": 0, "flip": False}
    assert without_defaults({"size": 512, "angle": 0.0, "flip": False}, defaults) == {"size": 512}
    assert without_defaults({"angle": 5, "flip": 0}, defaults) == {"angle": 5, "flip": 0}


@given(st.binary(max_size=3000))
def test_a_file_hashes_as_its_bytes(data: bytes) -> None:
    assert digest_file(io.BytesIO(data)) == digest_bytes(data)


def test_a_key_has_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        hexkey(b"short")
