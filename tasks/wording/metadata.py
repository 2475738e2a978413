"""Captions of a whole folder in one JSON Lines file, as Hugging Face's imagefolder writes them.

Each line is an object with `file_name` (relative to the file's own folder) and `text` (a string,
or a list of several prompts).
"""

import json
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks.wording.sources import decode_text, split_prompts

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What such a file says."""

    texts: dict[str, list[str]]
    """The prompts of an image by its path as `same_path` writes it, in the order of the lines."""
    broken: list[tuple[int, str]]
    """Line number, from 1, and what is wrong with it."""


def parse_metadata(data: bytes, folder: str) -> Metadata:
    """Reads the lines of a file that lies in `folder`; several lines of one image add up.

    Raises:
        ValueError: not a single line can be read; says what is wrong with the first.
    """
    texts: dict[str, list[str]] = {}
    broken: list[tuple[int, str]] = []
    for number, line in _lines(data):
        try:
            name, prompts = _entry(line)
        except ValueError as error:
            broken.append((number, str(error)))
        else:
            texts.setdefault(same_path(posixpath.join(folder, name)), []).extend(prompts)
    if broken and not texts:
        number, reason = broken[0]
        raise ValueError(f"line {number}: {reason}; no line of it can be read")
    return Metadata(texts, broken)


def same_path(path: str) -> str:
    """A path or URL in the one spelling by which images are looked up: NFC, without dots."""
    scheme, separator, place = path.rpartition("://")
    return unicodedata.normalize("NFC", f"{scheme}{separator}{posixpath.normpath(place)}")


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.removeprefix(_BOM).split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _entry(line: bytes) -> tuple[str, list[str]]:
    """(file_name, prompts) of one line; ValueError says what is wrong with it."""
    try:
        value = json.loads(decode_text(line))
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("is no line of captions: it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError('must be an object with "file_name" and "text"')
    for key in ("file_name", "text"):
        if key not in value:
            raise ValueError(f'has no "{key}"; its keys: {_listed(value) or "none"}')
    name = value["file_name"]
    if not isinstance(name, str) or not name:
        raise ValueError('its "file_name" must be the path of an image')
    return name, [prompt for text in _texts(value["text"]) for prompt in _prompts(text)]


def _listed(keys: Iterable[str]) -> str:
    """Keys as a message shows them; half characters would be no text."""
    return ", ".join(keys)[:80].encode(errors="backslashreplace").decode()


def _texts(value: Any) -> list[str]:
    """The strings of a `text`; null is none."""
    texts = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError('its "text" must be a string or a list of strings')
    return texts


def _prompts(text: str) -> list[str]:
    """One prompt, or none when it is blank: line breaks within it are spaces."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f'its "text" holds half a character at position {error.start}') from error
    if "\0" in text:
        raise ValueError(f'its "text" holds a NUL at position {text.index(chr(0))}')
    return split_prompts(text, "joined")
