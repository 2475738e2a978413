"""The sheet of captions as Markdown: a table for a Prefect artifact."""

import re
from collections.abc import Mapping

from tasks.captions.sheet import Card, Sheet, data_uri, in_order, shrunk
from tasks.export.tiles import spread
from tasks.pages.safe import short

MAX_TILES = 24
MAX_BYTES = 256_000
EDGE = 96
MAX_TEXT = 280
_MAX_KINDS = 12
_WIDE = "&nbsp;" * 24
"""Keeps the column of pictures as wide as they are."""
# Whatever might be markup; written as a number, it cannot be.
_SPECIAL = re.compile(r"[^\w ,\u00a0-\U0010ffff]|_")
_SPACES = re.compile(r"\s+")


def markdown_sheet(sheet: Sheet, max_bytes: int = MAX_BYTES) -> str:
    """A few tiles of a sheet with their captions, and the numbers of all; at most `max_bytes`.

    Where not everything fits, pictures are left out first, from the last one on.

    Args:
        sheet: of which at most MAX_TILES cards are shown, evenly spread.
        max_bytes: of the UTF-8 text; the numbers alone need up to 16,000.
    """
    head = _head(sheet)
    left = max_bytes - len(head.encode())
    rows: list[tuple[Card, str]] = []
    for number in spread(len(sheet.cards), MAX_TILES):
        card = sheet.cards[number]
        texts = f" {_texts(card)} |\n"
        left -= len(texts.encode()) + 1
        if left < 0:
            break
        rows.append((card, texts))
    lines = []
    for card, texts in rows:
        picture = _picture(card)
        fits = len(picture) <= left
        left -= len(picture) if fits else 0
        lines.append(f"|{picture if fits else ''}{texts}")
    return head + "".join(lines)


def escaped(text: str, limit: int = MAX_TEXT) -> str:
    """Text that stays itself in a cell of a Markdown table, and as HTML."""
    plain = _SPACES.sub(" ", short(_SPACES.sub(" ", text), limit)).strip()
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", plain)


def _head(sheet: Sheet) -> str:
    lines = [f"### Captions of {escaped(sheet.name, 120)}", "", _numbers(sheet), ""]
    if sheet.cards:
        shown = min(len(sheet.cards), MAX_TILES)
        if shown < sheet.total:
            lines += [f"At most {shown} of {sheet.total:,} are shown here, evenly spread.", ""]
        # Prefect's pages squeeze pictures where a table has many columns.
        lines += [f"| tile{_WIDE} | caption |", "|---|---|"]
    return "\n".join(lines) + "\n"


def _numbers(sheet: Sheet) -> str:
    """What there is: `**12** captions: 9 generated, ...`."""
    parts = [f"**{sheet.total:,}** chosen: {_listed(in_order(sheet.origins))}"]
    if sheet.unusable:
        parts.append(f"answers that are no caption: {_listed(sheet.unusable)}")
    if sheet.failures:
        parts.append(f"failed: {_listed(sheet.failures)}")
    return "; ".join(parts)


def _listed(counts: Mapping[str, int]) -> str:
    told = [f"{number:,} {escaped(name, 60)}" for name, number in list(counts.items())[:_MAX_KINDS]]
    more = "" if len(counts) <= _MAX_KINDS else f" and {len(counts) - _MAX_KINDS} more kinds"
    return (", ".join(told) or "none") + more


def _picture(card: Card) -> str:
    return "" if card.picture is None else f" ![tile]({data_uri(shrunk(card.picture, EDGE))})"


def _texts(card: Card) -> str:
    caption = " / ".join(escaped(prompt) for prompt in card.prompts[:3] if prompt) or "–"
    if card.unusable:
        caption += f"<br>{escaped(card.unusable, 60)}: {escaped(card.answer)}"
    if card.failure:
        caption += f"<br>failed: {escaped(card.failure)}"
    photo = f"{escaped(card.path, 120)}, {escaped(card.where, 80)} **{card.name}**"
    context = f"<br>{escaped(card.context)}" if card.context else ""
    return f"| {caption}<br><br>*{escaped(card.origin, 40)}*, {photo}{context}"
