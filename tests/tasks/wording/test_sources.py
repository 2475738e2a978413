import unicodedata

import pytest

from tasks.wording.sources import decode_text, filename_prompt, split_prompts

BOM = "\ufeff"


def test_each_line_is_a_prompt() -> None:
    text = "a harbour at dawn\r\n\r\n  two boats \rfog\n\n"
    assert split_prompts(text, "lines") == ["a harbour at dawn", "two boats", "fog"]


def test_joined_lines_are_one_prompt() -> None:
    assert split_prompts("a harbour\n\nat dawn\n", "joined") == ["a harbour at dawn"]


@pytest.mark.parametrize("mode", ["lines", "paragraphs", "joined"])
def test_blank_text_has_no_prompt(mode: str) -> None:
    for text in ("", "\n \r\n\t", BOM):
        assert split_prompts(text, mode) == []  # type: ignore[arg-type]


def test_only_line_ends_end_lines() -> None:
    assert split_prompts("one\u2028still one\x0cand on", "lines") == [
        "one\u2028still one\x0cand on"
    ]


def test_spellings_are_one_form() -> None:
    apart = unicodedata.normalize("NFD", "Café in Zürich")
    assert apart != "Café in Zürich"
    assert split_prompts(apart, "lines") == ["Café in Zürich"]
    assert filename_prompt(f" {apart} ") == "Café in Zürich"
    assert filename_prompt("IMG_0042 (1)") == "IMG_0042 (1)"


def test_a_byte_order_mark_is_no_text() -> None:
    assert decode_text(b"\xef\xbb\xbfa boat") == "a boat"
    assert split_prompts(BOM + "a boat", "lines") == ["a boat"]


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("Zürich".encode("latin-1"), "byte 0xfc at position 1"),
        ("a boat".encode("utf-16"), "byte 0xff at position 0"),
        ("a boat".encode("utf-16-le"), "byte 0x00 at position 1"),
        (b"abc\xc3", "byte 0xc3 at position 3"),
    ],
)
def test_other_encodings_are_named_by_position(data: bytes, place: str) -> None:
    with pytest.raises(ValueError, match=f"not UTF-8 text: {place}; save the file"):
        decode_text(data)


def test_paragraphs_are_prompts_with_their_lines_joined() -> None:
    text = "\n a harbour\nat dawn \r\n \t\r\n\r\ntwo boats\n"
    assert split_prompts(text, "paragraphs") == ["a harbour at dawn", "two boats"]
    assert split_prompts(text, "joined") == ["a harbour at dawn two boats"]
