import json
import unicodedata

import pytest

from tasks.wording.metadata import Metadata, parse_metadata, same_path


def lines(*values: object) -> bytes:
    return "\n".join(json.dumps(value) for value in values).encode()


def parse(data: bytes) -> Metadata:
    return parse_metadata(data, "/data")


def test_a_line_is_the_prompts_of_an_image() -> None:
    found = parse(
        lines(
            {"file_name": "a.jpg", "text": "a boat"},
            {"file_name": "sub/b.jpg", "text": ["one", "two"], "other": 3},
            {"file_name": "./a.jpg", "text": " and\na pier "},
            {"file_name": "/elsewhere/c.jpg", "text": None},
        )
    )
    assert found.broken == []
    assert found.texts == {
        "/data/a.jpg": ["a boat", "and a pier"],
        "/data/sub/b.jpg": ["one", "two"],
        "/elsewhere/c.jpg": [],
    }


def test_blank_lines_and_a_byte_order_mark_are_no_lines() -> None:
    data = b"\xef\xbb\xbf\r\n" + lines({"file_name": "a.jpg", "text": ""}) + b"\r\n\n \n"
    assert parse(data) == Metadata({"/data/a.jpg": []}, [])
    assert parse(b"") == Metadata({}, [])


def test_an_image_is_found_whatever_its_spelling() -> None:
    name = "Zürich.jpg"
    found = parse(lines({"file_name": unicodedata.normalize("NFD", name), "text": "x"}))
    assert same_path(f"/data/{name}") in found.texts
    assert same_path("s3://bucket/a//b/../c.jpg") == "s3://bucket/a/c.jpg"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "is no JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"[1]", 'must be an object with "file_name" and "text"'),
        (b'{"image": "a.jpg", "text": "x"}', 'has no "file_name"; its keys: image, text'),
        (b'{"file_name": "a.jpg"}', 'has no "text"; its keys: file_name'),
        (b'{"file_name": "a.jpg", "\\ud800": 1}', r'has no "text"; its keys: file_name, \ud800'),
        (b'{"file_name": 3, "text": "x"}', 'its "file_name" must be the path of an image'),
        (b'{"file_name": "a.jpg", "text": 3}', 'its "text" must be a string or a list of strings'),
        (b'{"file_name": "a.jpg", "text": ["x", 3]}', "a list of strings"),
        (b'{"file_name": "a.jpg", "text": "x\\ud800"}', "half a character at position 1"),
        (b'{"file_name": "a.jpg", "text": "x\\u0000"}', "a NUL at position 1"),
        (b'{"file_name": "a.jpg", "text": "\xe9"}', "not UTF-8 text: byte 0xe9"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, ""),
    ],
)
def test_a_broken_line_is_told_with_its_number_and_spoils_no_other(line: bytes, told: str) -> None:
    good = lines({"file_name": "a.jpg", "text": "a boat"})
    found = parse(good + b"\n\n" + line + b"\n" + good)
    assert found.texts == {"/data/a.jpg": ["a boat", "a boat"]}
    [(number, reason)] = found.broken
    assert number == 3
    assert told in reason


def test_a_file_without_a_readable_line_cannot_be_used() -> None:
    data = lines({"file_name": "a.jpg", "text": "a boat"}).decode().encode("utf-16")
    with pytest.raises(ValueError, match="line 1: not UTF-8 text"):
        parse(data)
