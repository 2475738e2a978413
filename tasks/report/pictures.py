"""The pictures of a report, made as small as the page's size asks for."""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

EDGES = (224, 192, 160, 144, 128, 112, 96, 88, 80, 72, 64, 56, 48)
"""Long sides that thumbnails are brought to, the first that fits; before that, they are as stored.
"""
QUALITY = 50
"""Of WebP, which at this size takes half of what JPEG does."""
TRIED = 64
"""Thumbnails from which the size of all is estimated."""
_PER_PICTURE = 2
"""Bytes that stand between two pictures."""


def fit_pictures(thumbnails: Sequence[bytes | None], budget: int) -> list[str]:
    """The base64 text of every picture, empty for none, within `budget` bytes together.

    When not even the smallest size lets all in, the first ones have pictures: give them in the
    order in which they matter.
    """
    there = [data for data in thumbnails if data is not None]
    encoded = [_text(data) for data in thumbnails]
    if _size(encoded) <= budget:
        return encoded
    tried = there[:: max(1, len(there) // TRIED)]
    for edge in EDGES:
        sample = _size([_text(data) for data in _shrunk(tried, edge)])
        if sample / len(tried) * len(there) > budget and edge != EDGES[-1]:
            continue
        encoded = [_text(data) for data in _shrunk(thumbnails, edge)]
        if _size(encoded) <= budget:
            break
    return _cut(encoded, budget)


def _shrunk(thumbnails: Sequence[bytes | None], edge: int) -> list[bytes | None]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda data: _shrink(data, edge), thumbnails))


def _shrink(data: bytes | None, edge: int) -> bytes | None:
    if data is None:
        return None
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (edge, edge))
    image.thumbnail((edge, edge), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=2)
    return out.getvalue()


def _text(data: bytes | None) -> str:
    return "" if data is None else base64.b64encode(data).decode("ascii")


def _size(encoded: Sequence[str]) -> int:
    return sum(len(text) + _PER_PICTURE for text in encoded)


def _cut(encoded: list[str], budget: int) -> list[str]:
    """The pictures at the front that fit; the others become empty."""
    left = budget - _PER_PICTURE * len(encoded)
    kept = []
    for text in encoded:
        left -= len(text)
        kept.append(text if left >= 0 else "")
    return kept
