"""Small JPEG previews of source images."""

import io

import numpy as np
from PIL import Image

from tasks.imaging.colour import to_srgb
from tasks.imaging.decode import decode, upright
from tasks.imaging.header import FORMAT_ERRORS, MAX_PIXELS, ImageError, open_image, orientation

EDGE = 320
QUALITY = 78


def make_thumbnail(data: bytes, edge: int = EDGE, *, max_pixels: int = MAX_PIXELS) -> bytes | None:
    """Return a JPEG whose long side is at most `edge` pixels; None for bytes that are no image.

    The preview is upright and in sRGB, by the rules that training uses.
    """
    try:
        image = _reduced_jpeg(data, edge, max_pixels)
        if image is None:
            image = Image.fromarray(decode(data, max_pixels=max_pixels))
    except ImageError:
        return None
    image.thumbnail((edge, edge), Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def _reduced_jpeg(data: bytes, edge: int, max_pixels: int) -> Image.Image | None:
    """Decode a colour or grey JPEG at reduced size, many times faster than in full.

    None for other images and for damaged ones: the full decoder then says what is wrong.
    """
    image = open_image(data, max_pixels=max_pixels)
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    turn = orientation(image)
    image.draft(image.mode, (edge * 2, edge * 2))
    try:
        pixels = np.array(to_srgb(image))
    except FORMAT_ERRORS:
        return None
    return Image.fromarray(upright(pixels, turn))
