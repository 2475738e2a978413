"""The fork's captions of tiles; silent where a file does not switch them on."""

import re
from collections.abc import Callable, Iterable, Iterator
from string import Formatter
from typing import Any
from urllib.parse import urlsplit

from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, only

_CROPS = "image.detail_crops."
_SERVER = "http://localhost:11434"
_MODEL = "qwen2.5vl:3b"

PLACEHOLDERS: dict[str, tuple[str, str]] = {
    "context": ("{context}", ""),
    "scale": ("{scale}", "multiplies the training resolution here"),
    "coords": (
        "{rect}",
        "is {rect} here: left, top, width, height, where the fork says top and left",
    ),
    "image_path": ("{file_name}", "is {file_name} here, without folders"),
    "crop_type": ("detail", 'is the word "detail" here, for context tiles too'),
    "index": ("", "is left out: tiles have no number here"),
    "source_resolution": ("full size", 'is "full size" here: the numbers are not known'),
}
"""By the fork's name: what is written instead, and what is said of it."""
_KNOWN = re.compile(rf"(\{{(?:{'|'.join(PLACEHOLDERS)})\}})")
_DOUBLED = re.compile(r"\{\{|\}\}")


def user_prompt(text: str) -> tuple[str, str]:
    """(our `caption_user_prompt`, a note if it differs) of the fork's.

    The fork's placeholders become ours, or words. Those that it does not know stay as they are
    written there, so their braces are doubled.
    """
    written, notes = "", dict[str, None]()
    for token, name in _tokens(text):
        if name is None:
            written += token.replace("{", "{{").replace("}", "}}")
            continue
        ours, told = PLACEHOLDERS[name]
        # Nothing takes the place of a number, so what leads to it goes too.
        written = (written if ours else written.rstrip(" #")) + ours
        if told:
            notes[f"{token} {told}"] = None
        if token != f"{{{name}}}":
            notes[f"{token} has no format here"] = None
    if len(_DOUBLED.findall(written)) != len(_DOUBLED.findall(text)):
        notes["braces that are meant as such are written twice"] = None
    return written, "; ".join(notes)


def _tokens(text: str) -> Iterator[tuple[str, str | None]]:
    """The parts of a prompt of the fork's: text, or a placeholder with the fork's name of it."""
    try:
        fields = list(Formatter().parse(text))
    except ValueError:  # the fork fails on it; what is no placeholder is meant as it stands
        yield from _plain(text)
        return
    for before, name, spec, turn in fields:
        yield before, None
        if name is None:
            continue
        token = f"{{{name}{f'!{turn}' if turn else ''}{f':{spec}' if spec else ''}}}"
        head = re.split(r"[.\[]", name)[0]
        if head in PLACEHOLDERS:
            yield token, head
        else:
            yield from _plain(token)


def _plain(text: str) -> Iterator[tuple[str, str | None]]:
    """As `_tokens`, where only whole placeholders count and every other brace is text."""
    for part in _KNOWN.split(text):
        yield part, part[1:-1] if _KNOWN.fullmatch(part) else None


def _enable(value: Any, _: View) -> Iterable[Answer]:
    mode = "a tile with a caption trains on it; in the fork captions never reach the training"
    size = "what the fork sends, as PNG; here it is a JPEG, of 768 pixels by default"
    return [
        Put(f"{_CROPS}enable_captioning", True),
        Put(f"{_CROPS}caption_mode", "replace", mode),
        Put(f"{_CROPS}caption_image_px", 512, size),
    ]


def _probability(value: Any, _: View) -> Iterable[Answer]:
    ours = max(0.0, min(1.0, float(value)))
    note = "" if ours == float(value) else f"was {value}, which the fork reads as {ours:g}"
    return [Put(f"{_CROPS}caption_probability", ours, note)]


def _model(value: Any, _: View) -> Iterable[Answer]:
    if name := _text(value).strip():
        return [Put(f"{_CROPS}caption_model", name)]
    return [Put(f"{_CROPS}caption_model", _MODEL, f"was empty, which the fork reads as {_MODEL}")]


def _prompt(key: str, converted: Callable[[str], tuple[str, str]]) -> Row:
    def convert(value: Any, _: View) -> Iterable[Answer]:
        if value is None:
            return []
        if not _text(value).strip():
            return [
                Left("different", "a model needs to be told what to do: our own prompt is sent")
            ]
        return [Put(f"{_CROPS}{key}", *converted(value))]

    return Row(None, convert)


def _endpoint(value: Any, _: View) -> Iterable[Answer]:
    note = "start Ollama there; the fork starts servers of its own and never reads this"
    address = _text(value).strip()
    if address and "://" not in address:
        address = f"http://{address}"
    if not _is_address(address):
        # What it was is not repeated: there may be a password in it.
        note = f"was {'no usable address' if address else 'empty'}; {note}"
        address = _SERVER
    return [Put(f"{_CROPS}caption_endpoint", address, note)]


def _is_address(text: str) -> bool:
    """Whether our settings take it: a server over HTTP, without credentials."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    return is_server and not (parts.username or parts.password or parts.query)


def _number(key: str, default: float, note: str = "") -> Row:
    """A number of which 0 means the default; `note` is said of any other value."""

    def convert(value: Any, _: View) -> Iterable[Answer]:
        number = float(value)
        if not number:
            told = f"was 0, which the fork reads as {default:g}"
            return [Put(f"{_CROPS}{key}", default, told)]
        ours = type(default)(number)
        return [Put(f"{_CROPS}{key}", ours, note if ours != default else "")]

    return Row(default, convert)


def _auto_pull(value: Any, _: View) -> Iterable[Answer]:
    note = "" if value else "so it is not downloaded; the fork does it all the same"
    return [Put(f"{_CROPS}caption_auto_pull", bool(value), note)]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is needed")
    return value


def _is_on(view: View) -> bool:
    return bool(view[f"{_CROPS}enable_captioning"])


def _where_on(rows: Table) -> Table:
    return {f"{_CROPS}{key}": only(_is_on, row) for key, row in rows.items()}


CAPTIONS: Table = _where_on(
    {
        "enable_captioning": Row(False, _enable),
        "caption_probability": Row(0.2, _probability),
        "caption_model": Row(_MODEL, _model),
        "caption_system_prompt": _prompt("caption_system_prompt", lambda text: (text, "")),
        "caption_user_prompt": _prompt("caption_user_prompt", user_prompt),
        "caption_endpoint": Row(_SERVER, _endpoint),
        "caption_timeout": _number("caption_timeout", 120.0),
        "caption_max_retries": _number("caption_max_retries", 4),
        "caption_auto_pull": Row(True, _auto_pull),
        "caption_max_tokens": _number("caption_max_tokens", 256, "the fork always takes 256"),
    }
)
"""The fork's `image.detail_crops.caption_*`; of its prompts only those that a file says."""
