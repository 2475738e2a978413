"""Turning pixels upright and converting them strip by strip, so that a large image is held once."""

import mmap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

STRIP_PIXELS = 1 << 20
Strip = Callable[[int, int], "Pixels"]
"""(top, bottom) to the RGB pixels of these rows, as they are stored. Asked for in order."""

_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
_FROM_BOTTOM = (3, 4, 6, 7)


def upright(pixels: "Pixels", turn: int) -> "Pixels":
    """Turns (height, width[, channels]) pixels by an EXIF orientation, 1 to 8."""
    if turn == 1:
        return pixels
    # cv2 works in cache-sized blocks: a numpy transposed copy of 24 megapixels takes 10 x as long.
    import cv2

    if turn >= 5:
        pixels = cv2.transpose(pixels)
    flip = _FLIPS.get(turn)
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip), dtype=np.uint8)


def assemble(width: int, height: int, turn: int, strip: Strip) -> "Pixels":
    """Upright RGB pixels of an image that is stored as `width` x `height` and read in strips."""
    shape = (width, height, 3) if turn >= 5 else (height, width, 3)
    out = np.empty(shape, np.uint8)
    for top, bottom in strip_rows(width, height):
        _place(out, strip(top, bottom), top, turn)
    return out


def turn_large(pixels: "Pixels", turn: int) -> "Pixels":
    """As `upright`, without ever holding the pixels twice; `pixels` must not be used afterwards."""
    import cv2

    height, width = pixels.shape[:2]
    if turn < 5:
        flip = _FLIPS.get(turn)
        return pixels if flip is None else np.asarray(cv2.flip(pixels, flip, dst=pixels))
    out = _in_small_pages(width, height)
    for top, bottom in reversed(list(strip_rows(width, height))):
        _place(out, pixels[top:bottom], top, turn)
        # What has been turned is given back to the system.
        pixels.resize((top, width, 3), refcheck=False)
    return out


def _in_small_pages(height: int, width: int) -> "Pixels":
    """Memory that becomes real as it is written, even column by column, not 2 MiB at once."""
    memory = mmap.mmap(-1, height * width * 3)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.uint8).reshape(height, width, 3)


def strip_rows(width: int, height: int) -> Iterator[tuple[int, int]]:
    """(top, bottom) of strips of about STRIP_PIXELS."""
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _place(out: "Pixels", strip: "Pixels", top: int, turn: int) -> None:
    """Writes the stored rows from `top` on to where they are in the upright image."""
    turned, rows = upright(strip, turn), strip.shape[0]
    axis = 1 if turn >= 5 else 0
    start = out.shape[axis] - top - rows if turn in _FROM_BOTTOM else top
    if axis:
        out[:, start : start + rows] = turned
    else:
        out[start : start + rows] = turned
