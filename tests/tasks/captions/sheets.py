"""Invented sheets of captions."""

import io
from typing import Any

from PIL import Image

from tasks.captions.sheet import Card, Sheet

HOSTILE = (
    "<script>window.hit = 1</script>",
    '"><img src="x" onerror="window.hit = 2">',
    "'><svg/onload=window.hit=3>",
    "{{ 7*7 }}{% raw %}",
    "]]><!-- -->&amp;&lt;b&gt;",
    "</bdi></article></script><script>window.hit = 4</script>",
    "javascript:window.hit=5",
    "עברית \u202eright to left\u2066 عربى",
    "a | b ` c [d](https://example.org) ![e](https://example.org/e.png) <https://example.org>",
    "# heading\n\n- item\n\n    code\r\n| x |\n|---|\n***bold*** __x__ ~~y~~ https://example.org",
    "\0\x1b[31mred",
)


def jpeg(size: tuple[int, int] = (192, 128), colour: str = "olive") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return out.getvalue()


def card(caption: str = "a boat", **facts: Any) -> Card:
    given: dict[str, Any] = {"path": "a.jpg", "name": "0123456789", "where": "detail ×2"}
    given |= {"prompts": (caption,), "origin": "generated"}
    return Card(**{**given, **facts})


def sheet(*cards: Card, **facts: Any) -> Sheet:
    origins: dict[str, int] = {}
    for one in cards:
        origins[one.origin] = origins.get(one.origin, 0) + 1
    given = {"name": "boats", "made_at": "2026-01-01T00:00:00Z", "total": len(cards)}
    return Sheet(**{**given, "cards": cards, "origins": origins, **facts})


def hostile_sheet() -> Sheet:
    """A sheet in which every text is hostile."""
    cards = [
        card(
            text,
            path=text,
            where=text,
            origin=text,
            context=text,
            answer=text,
            unusable=text,
            failure=text,
            model=text,
            picture=jpeg(),
            source="00ff",
            part=(0.25, 0.5, 0.5, 0.5),
        )
        for text in HOSTILE
    ]
    several = card(prompts=HOSTILE)
    counts = dict.fromkeys(HOSTILE, 3)
    return sheet(
        *cards,
        several,
        name=HOSTILE[1],
        folder=HOSTILE[0],
        thumbnails={"00ff": jpeg((160, 100))},
        unusable=counts,
        failures=counts,
    )
