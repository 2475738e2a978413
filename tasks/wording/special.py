"""Special tags: those that drop-out never drops, or the only ones that it drops."""

import re
from collections.abc import Callable, Sequence

from tasks.config.concepts import TextConfig
from tasks.files.reading import read_bytes
from tasks.wording.sources import decode_text, split_prompts

Special = Callable[[str], bool]
"""Whether a tag is special."""


def special_tags(text: TextConfig) -> Special:
    """Which tags are special, from the list and the file; reads the file.

    Raises:
        ValueError: the file cannot be read, or a regular expression does not compile.
    """
    tags = [*text.tag_dropout_special_tags, *_of_file(text)] if uses_special_tags(text) else []
    return matcher(tags, regex=text.tag_dropout_special_tags_regex)


def uses_special_tags(text: TextConfig) -> bool:
    """Whether it matters which tags are special."""
    return text.tag_dropout_enable and text.tag_dropout_special_tags_mode != "none"


def matcher(tags: Sequence[str], *, regex: bool) -> Special:
    """Tells special tags: by name, or by a regular expression that the whole tag must match."""
    if not regex:
        return frozenset(split_prompts("\n".join(tags), "lines")).__contains__
    patterns = [compiled(tag) for tag in tags]
    return lambda tag: any(pattern.fullmatch(tag) for pattern in patterns)


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression; ValueError says what is wrong with it."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


def read_tags(path: str, delimiter: str, *, regex: bool) -> list[str]:
    """The tags of a text file: one per line, or several with the tags' delimiter between them.

    A line of regular expressions is one: they may hold the delimiter.

    Raises:
        ValueError: the file cannot be read as text.
    """
    try:
        lines = split_prompts(decode_text(read_bytes(path)), "lines")
    except (ValueError, OSError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"{path} cannot be read: {told}") from error
    if regex:
        return lines
    tags = [tag.strip() for line in lines for tag in line.split(delimiter)]
    return [tag for tag in tags if tag]


def _of_file(text: TextConfig) -> list[str]:
    path = text.tag_dropout_special_tags_path
    if not path:
        return []
    return read_tags(path, text.tag_delimiter, regex=text.tag_dropout_special_tags_regex)
