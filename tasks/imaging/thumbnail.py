"""Small JPEG pictures of sources, for people."""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tasks.imaging.colour import to_srgb
from tasks.imaging.header import FORMAT_ERRORS, MAX_PIXELS, ImageError, open_image, orientation
from tasks.imaging.strips import upright

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

EDGE = 256
"""Pixels of the long side, at most."""
QUALITY = 75
_SAMPLES = 4
"""A picture is averaged from so many pixels per pixel and side; more would show no difference."""


def shrink(pixels: "Pixels") -> bytes:
    """The JPEG of decoded pixels, which are not changed."""
    height, width = pixels.shape[:2]
    step = max(1, max(height, width) // (EDGE * _SAMPLES))
    return _jpeg(Image.fromarray(np.ascontiguousarray(pixels[::step, ::step])))


def shrink_jpeg(data: bytes, *, max_pixels: int = MAX_PIXELS) -> bytes | None:
    """The small JPEG of a colour or grey JPEG file, decoded at reduced size, many times faster.

    None for other files and for damaged ones: the full decoder then says what is wrong.
    """
    try:
        image = open_image(data, max_pixels=max_pixels)
        if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
            return None
        turn = orientation(image)
        image.draft(image.mode, (EDGE * 2, EDGE * 2))
        pixels = np.array(to_srgb(image))
    except (ImageError, *FORMAT_ERRORS):
        return None
    return _jpeg(Image.fromarray(upright(pixels, turn)))


def _jpeg(image: Image.Image) -> bytes:
    image.thumbnail((EDGE, EDGE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()
