"""Sheet: an HTML page on which a person looks at captions beside the pixels that they are of.

It makes no requests and works from a file. Captions are the words of a model about files of
strangers: whatever they say is shown as text, and the page allows no script but its own.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup
from PIL import Image

from tasks.captions.failures import kind_of
from tasks.pages.safe import environment, policy_hash
from tasks.wording.resolve import EDITED, GENERATED

MAX_CARDS = 1000
QUALITY = 70
"""Of pictures that are made smaller still."""
ORIGINS = (GENERATED, EDITED, "to come")
"""The origins that come first; others are told after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One tile, or a whole photo, with its text."""

    path: str
    name: str
    """What to call it when it is to be dropped."""
    where: str
    """Which part of the photo it is, for people."""
    prompts: tuple[str, ...]
    origin: str
    context: str = ""
    answer: str = ""
    """What a model said, where that is no caption."""
    unusable: str = ""
    """Why it is none."""
    failure: str = ""
    """Why no model answered when it was asked last."""
    model: str = ""
    picture: bytes | None = None
    """JPEG of the pixels; None where they are gone."""
    source: str = ""
    """Which thumbnail shows where they are."""
    part: tuple[float, float, float, float] | None = None
    """Left, top, width and height as shares of the photo; None for all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The cards, and the numbers of everything that they were chosen from."""

    name: str
    """Of the dataset."""
    made_at: str
    made_of: str = ""
    """What a run knows the page by."""
    folder: str = ""
    """That the paths of the cards start in."""
    total: int
    cards: tuple[Card, ...]
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    """JPEG of every photo by `Card.source`."""
    origins: Mapping[str, int] = field(default_factory=dict)
    unusable: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    """By the kind of failure."""


def in_order(origins: Mapping[str, int]) -> dict[str, int]:
    """Numbers by origin, captions first."""
    names = [*ORIGINS, *sorted(set(origins) - set(ORIGINS))]
    return {name: origins[name] for name in names if name in origins}


def html_sheet(sheet: Sheet) -> str:
    """The page."""
    style, script = _inlined()
    marks = _marks(sheet)
    numbers = {name: number for number, name in enumerate(marks)}
    template = environment("tasks.captions").get_template("sheet.html")
    return template.render(
        sheet=sheet,
        origins=in_order(sheet.origins),
        marks=marks,
        cards=[(card, _facts(card, sheet, numbers)) for card in sheet.cards],
        thumbnails={source: _thumbnail(jpeg) for source, jpeg in sheet.thumbnails.items()},
        style=Markup(style),
        script=Markup(script),
        style_hash=policy_hash(style),
        script_hash=policy_hash(script),
    )


def _marks(sheet: Sheet) -> dict[str, int]:
    """By what cards can be filtered, and how many of them there are."""
    counts: dict[str, int] = {}
    for card in sheet.cards:
        for mark in _marks_of(card):
            counts[mark] = counts.get(mark, 0) + 1
    origins = in_order({card.origin: 0 for card in sheet.cards})
    others = sorted(set(counts) - set(origins))
    return {mark: counts[mark] for mark in (*origins, *others)}


def _marks_of(card: Card) -> list[str]:
    marks = [card.origin]
    if card.unusable:
        marks.append(f"no caption: {card.unusable}")
    if card.failure:
        marks.append(f"failed: {kind_of(card.failure)}")
    return marks


def _facts(card: Card, sheet: Sheet, numbers: Mapping[str, int]) -> dict[str, Any]:
    """What a card needs besides its texts."""
    thumbnail = sheet.thumbnails.get(card.source)
    part = None
    if thumbnail is not None and card.part is not None:
        width, height = _size(thumbnail)
        left, top, wide, high = card.part
        part = [f"{n:.1f}" for n in (left * width, top * height, wide * width, high * height)]
    return {
        "marks": " ".join(str(numbers[mark]) for mark in _marks_of(card)),
        "picture": None if card.picture is None else data_uri(card.picture),
        "has_thumbnail": thumbnail is not None,
        "part": part,
    }


def shrunk(jpeg: bytes, edge: int) -> bytes:
    """A JPEG whose long side has at most so many pixels."""
    image = Image.open(io.BytesIO(jpeg))
    image.thumbnail((edge, edge), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def data_uri(jpeg: bytes) -> Markup:
    """A JPEG as an address; base64 needs no escaping."""
    return Markup("data:image/jpeg;base64,") + Markup(base64.b64encode(jpeg).decode("ascii"))


def _thumbnail(jpeg: bytes) -> dict[str, Any]:
    width, height = _size(jpeg)
    return {"width": width, "height": height, "uri": data_uri(jpeg)}


@lru_cache(maxsize=MAX_CARDS)
def _size(jpeg: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(jpeg)).size


@lru_cache(maxsize=1)
def _inlined() -> tuple[str, str]:
    """Style and script."""
    folder = files("tasks.captions")
    return folder.joinpath("sheet.css").read_text(), folder.joinpath("sheet.js").read_text()
