"""Captions for a Prefect artifact: a table that is not too large, and only a table."""

import re
from base64 import b64decode
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image

from tasks.captions.sheet_markdown import MAX_TILES, escaped, markdown_sheet
from tests.tasks.captions.sheets import HOSTILE, card, hostile_sheet, jpeg, sheet

PICTURE = re.compile(r"!\[tile\]\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)")


def tokens(markdown: str) -> list[str]:
    """What kinds of markup a reader of GitHub's Markdown finds."""
    found = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown):
        found += [token.type, *(child.type for child in token.children or ())]
    return found


def noisy() -> bytes:
    """A picture that no JPEG makes small."""
    pixels = np.random.default_rng(1).integers(0, 255, (192, 192, 3), np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def test_a_table_of_a_few_tiles_and_the_numbers_of_all() -> None:
    cards = [card(f"boat {n}", context="a harbour", picture=jpeg()) for n in range(100)]
    text = markdown_sheet(
        sheet(
            *cards,
            total=1200,
            origins={"edited": 20, "generated": 1180},
            unusable={"refusal": 7},
            failures={"timeout": 2},
        )
    )
    assert "**1,200** chosen: 1,180 generated, 20 edited" in text
    assert "no caption: 7 refusal; failed: 2 timeout" in text
    assert f"At most {MAX_TILES} of 1,200 are shown here" in text
    rows = [line for line in text.splitlines() if line.startswith("| ![tile]")]
    assert len(rows) == MAX_TILES
    assert "| boat 2<br><br>*generated*, " in rows[0] and "boat 97" in rows[-1]
    assert "a harbour" in rows[0]
    (data,) = PICTURE.findall(rows[0])
    assert Image.open(BytesIO(b64decode(data))).size == (96, 64)
    kinds = tokens(text)
    assert kinds.count("table_open") == 1 and kinds.count("image") == MAX_TILES


def test_hostile_texts_are_text() -> None:
    text = markdown_sheet(hostile_sheet())
    kinds = tokens(text)
    allowed = {"heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline"}
    allowed |= {"text", "text_special", "image", "strong_open", "strong_close", "html_inline"}
    allowed |= {"em_open", "em_close"}
    parts = {kind for kind in kinds if not re.match(r"(table|thead|tbody|tr|th|td)_", kind)}
    assert parts <= allowed
    assert kinds.count("html_inline") == text.count("<br>")
    assert kinds.count("strong_open") == 1 + len(HOSTILE) + 1  # the numbers of the tiles
    assert kinds.count("em_open") == len(HOSTILE) + 1
    assert kinds.count("image") == len(HOSTILE)
    assert re.findall(r"<(?!br>)", text) == []
    assert kinds.count("tr_open") == len(HOSTILE) + 2
    assert kinds.count("td_open") == 2 * (len(HOSTILE) + 1)
    assert "\u202e" not in text and "\0" not in text


@given(st.text())
def test_any_text_stays_itself(text: str) -> None:
    cell = escaped(text, 10_000)
    assert re.fullmatch(r"(?:&#\d+;|[^\W_]|[ ,]|[^\x00-\x7f])*", cell)
    rendered = MarkdownIt("gfm-like", {"linkify": False}).renderInline(cell)
    plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "\ufffd",
                   re.sub(r"\s+", " ", text))  # fmt: skip
    assert unescape(rendered).strip() == re.sub(r"\s+", " ", plain).strip()


@pytest.mark.parametrize("most", [16_000, 24_000, 100_000, 256_000])
def test_it_is_never_too_large(most: int) -> None:
    large = [card("&" * 9_000, context="<" * 9_000, picture=noisy()) for _ in range(40)]
    for made in (sheet(*large), hostile_sheet()):
        assert len(markdown_sheet(made, most).encode()) <= most
    small = [card("a boat", picture=noisy()) for _ in range(MAX_TILES)]
    text = markdown_sheet(sheet(*small), most)
    assert len(text.encode()) <= most
    # Pictures are left out, captions are not.
    assert text.count("| a boat<br>") == MAX_TILES
    assert (text.count("![tile]") == MAX_TILES) == (most >= 100_000)


def test_no_more_kinds_than_fit() -> None:
    kinds = {f"kind {n} " + "&" * 100: n for n in range(200)}
    text = markdown_sheet(sheet(card(), unusable=kinds, failures=kinds, origins=kinds), 20_000)
    assert "and 188 more kinds" in text
    assert "a boat" in text


def test_a_sheet_without_cards_is_no_table() -> None:
    text = markdown_sheet(sheet())
    assert "**0** chosen: none" in text
    assert "table_open" not in tokens(text)
