"""Where prompts come from: text files and file names."""

import re
import unicodedata
from itertools import groupby

from tasks.config.concepts import Multiline

# Not str.splitlines, which also breaks at form feeds and Unicode separators inside a caption.
_LINE_END = re.compile(r"\r\n|\r|\n")


def decode_text(data: bytes) -> str:
    """Decodes UTF-8 with or without a byte order mark.

    Raises:
        ValueError: Not UTF-8 text; names the position of the first wrong byte.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = data[error.start]
        raise ValueError(
            f"not UTF-8 text: byte 0x{wrong:02x} at position {error.start}; "
            "save the file with UTF-8 encoding"
        ) from error
    if "\0" in text:
        raise ValueError(
            f"not UTF-8 text: byte 0x00 at position {data.index(0)}; "
            "save the file with UTF-8 encoding"
        )
    return text.removeprefix("\ufeff")


def split_prompts(text: str, multiline: Multiline) -> list[str]:
    """The prompts of a text (NFC).

    Each non-blank line is one; or each paragraph, with its lines joined by a space; or the whole
    text is one.
    """
    text = unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
    lines = [line.strip() for line in _LINE_END.split(text)]
    if multiline == "lines":
        return [line for line in lines if line]
    paragraphs = [list(group) for filled, group in groupby(lines, key=bool) if filled]
    joined = [" ".join(paragraph) for paragraph in paragraphs]
    return [" ".join(joined)] if multiline == "joined" and joined else joined


def filename_prompt(stem: str) -> str:
    """The prompt that a file's stem is, as written (NFC)."""
    return unicodedata.normalize("NFC", stem).strip()
