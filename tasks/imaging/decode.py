"""From the bytes of an image file to upright 8-bit sRGB pixels.

Baseline and progressive JPEG in RGB or grey goes through simplejpeg (libjpeg-turbo, three times as
fast as Pillow and bit-equal to it); everything else through Pillow. Both release the GIL, and
nothing here keeps state, so threads may decode in parallel. The rules of colour are in `colour`.
Animated files give their first frame. Orientation is always applied.
"""

import re

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from tasks.imaging.colour import convert_profile, is_srgb, to_srgb
from tasks.imaging.header import (
    FORMAT_ERRORS,
    MAX_PIXELS,
    Header,
    ImageError,
    image_error,
    open_image,
    orientation,
    oriented_size,
    probe,
)

__all__ = ["DECODER", "IMAGING_VERSION", "MAX_PIXELS", "Header", "ImageError", "decode", "probe"]

# Both are part of every view key. Raise the version when any pixel of any view changes: in
# decode, colour, resize or the cutting of views.
IMAGING_VERSION = 1
DECODER = "simplejpeg+pillow"

Pixels = npt.NDArray[np.uint8]

# Warnings of libjpeg that mean lost pixels. A few stray bytes before the end marker do not (some
# phones write them); more of them are what is left over after damage has derailed the decoder.
_LOST_PIXELS = re.compile("premature end|corrupt jpeg data", re.IGNORECASE)
_STRAY_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MOST_STRAY_BYTES = 16


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decodes an image file to (height, width, 3) uint8 sRGB, upright, contiguous and writable.

    Raises:
        ImageError: not an image, truncated or damaged, larger than `max_pixels`, or with samples
            that have no stated meaning.
    """
    image = open_image(data, max_pixels=max_pixels)
    turn = orientation(image)
    width, height = oriented_size(image, turn)
    try:
        pixels = _jpeg_pixels(data, image) if _is_plain_jpeg(image) else None
        if pixels is None:
            image.load()
            pixels = np.array(to_srgb(image))
    except FORMAT_ERRORS as error:
        raise image_error(error, image.format) from error
    pixels = upright(pixels, 1 if image.format == "TIFF" else turn)
    if pixels.shape != (height, width, 3):
        raise ImageError(
            f"the header says {width} x {height}, "
            f"the pixels are {pixels.shape[1]} x {pixels.shape[0]}"
        )
    return pixels


def upright(pixels: Pixels, turn: int) -> Pixels:
    """Turns (height, width, channels) pixels by an EXIF orientation, 1 to 8."""
    if turn == 1:
        return pixels
    # cv2 works in cache-sized blocks: a numpy transposed copy of 24 megapixels takes 10 x as long.
    import cv2

    if turn >= 5:
        pixels = cv2.transpose(pixels)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(turn)
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip), dtype=np.uint8)


def _is_plain_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")


def _jpeg_pixels(data: bytes, image: Image.Image) -> Pixels | None:
    """RGB pixels of a JPEG; None where Pillow, which overlooks warnings, should try."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        message = str(error)
        stray = _STRAY_BYTES.search(message)
        harmless = stray is not None and int(stray[1]) <= _MOST_STRAY_BYTES
        if _LOST_PIXELS.search(message) and not harmless:
            raise ImageError(f"truncated or damaged JPEG file: {message}") from error
        return None
    profile = image.info.get("icc_profile")
    if image.mode == "RGB" and is_srgb(profile):
        return pixels
    if image.mode == "L":
        return np.array(convert_profile(Image.fromarray(pixels[..., 0]), profile, grey=True))
    return np.array(convert_profile(Image.fromarray(pixels), profile, grey=False))
