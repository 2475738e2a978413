"""Names: what the files of an exported tile are called, whatever else is in the dataset."""

import re
import unicodedata
from functools import lru_cache
from pathlib import PurePosixPath

MOST_BYTES = 250
"""Of a whole name in UTF-8; file systems allow 255."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\ud800-\udfff]')


def tile_name(
    path: str, view_id: bytes, kind: str, scale: float, rect: tuple[int, int, int, int]
) -> str:
    """The name of a tile's picture, such as `harbour_1f3a9c2e_detail-x2_0-448-512x512.png`.

    The hex digits are the start of the view's key: two sources with one stem differ by them.

    Args:
        path: path or URL of the source.
        view_id: the key of the view.
        kind: detail or context.
        scale: of the tile's pass.
        rect: left, top, width and height of the tile in the resized source, in pixels.
    """
    left, top, width, height = rect
    tail = f"_{view_id.hex()[:8]}_{kind}-x{scale:g}_{left}-{top}-{width}x{height}.png"
    return _safe_stem(path, MOST_BYTES - len(tail)) + tail


def sidecar_name(name: str) -> str:
    """The name of the text file beside a tile's picture."""
    return f"{name.removesuffix('.png')}.txt"


@lru_cache(maxsize=4096)
def _safe_stem(path: str, most_bytes: int) -> str:
    """The stem of a path in NFC, with what some file system refuses replaced, cut to size."""
    stem = unicodedata.normalize("NFC", PurePosixPath(path).stem)
    safe = _UNSAFE.sub("_", stem).strip()
    safe = f"_{safe[1:]}" if safe.startswith(".") else safe
    return safe.encode()[:most_bytes].decode(errors="ignore").strip() or "tile"
