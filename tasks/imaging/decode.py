"""From the bytes of an image file to upright 8-bit sRGB pixels.

Baseline and progressive JPEG in RGB or grey goes through simplejpeg (libjpeg-turbo, three times as
fast as Pillow and bit-equal to it), very large PNG, TIFF and WebP through libvips (`large`),
everything else through Pillow. All release the GIL, and nothing here keeps state, so threads may
decode in parallel. The rules of colour are in `colour`. Animated files give their first frame,
pyramids their full size. Orientation is always applied, and always the whole image is decoded.
"""

import re
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from tasks.imaging.colour import convert_profile, is_srgb, to_srgb, white_level
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
from tasks.imaging.large import LARGE_PIXELS, decode_large, is_plain
from tasks.imaging.strips import Strip, assemble, strip_rows, turn_large, upright

__all__ = [
    "DECODER",
    "IMAGING_VERSION",
    "MAX_PIXELS",
    "Header",
    "ImageError",
    "Pixels",
    "decode",
    "decode_opened",
    "peak_bytes",
    "probe",
    "upright",
]

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


def decode(data: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decodes an image file to (height, width, 3) uint8 sRGB, upright, contiguous and writable.

    Raises:
        ImageError: not an image, truncated or damaged, larger than `max_pixels`, or with samples
            that have no stated meaning.
    """
    return decode_opened(data, open_image(data, max_pixels=max_pixels))


def decode_opened(data: bytes | BinaryIO, image: Image.Image) -> Pixels:
    """As `decode`, of an image that `open_image` has opened from the same data."""
    turn = orientation(image)
    width, height = oriented_size(image, turn)
    try:
        pixels = _pixels(data, image, turn)
    except FORMAT_ERRORS as error:
        raise image_error(error, image.format) from error
    if pixels.shape != (height, width, 3):
        raise ImageError(
            f"the header says {width} x {height}, "
            f"the pixels are {pixels.shape[1]} x {pixels.shape[0]}"
        )
    return pixels


def peak_bytes(image: Image.Image) -> int:
    """About how much memory decoding an opened image takes at most, its pixels included."""
    pixels = image.width * image.height
    if _is_plain_jpeg(image):
        # A progressive JPEG is held whole as 16-bit coefficients too.
        return pixels * (9 if "progressive" in image.info else 4)
    return pixels * (4 if pixels >= LARGE_PIXELS and is_plain(image) else 8)


def _pixels(data: bytes | BinaryIO, image: Image.Image, turn: int) -> Pixels:
    large = image.width * image.height >= LARGE_PIXELS
    if _is_plain_jpeg(image):
        pixels = _jpeg_pixels(_whole(data), image)
        if pixels is not None:
            return turn_large(pixels, turn) if large else upright(pixels, turn)
    if large and is_plain(image):
        return decode_large(data, image, turn)
    image.load()
    # Pillow has turned a TIFF itself.
    return assemble(*image.size, 1 if image.format == "TIFF" else turn, _strips(image))


def _strips(image: Image.Image) -> Strip:
    white = white_level(image)

    def strip(top: int, bottom: int) -> Pixels:
        whole = bottom - top == image.height
        rows = image if whole else image.crop((0, top, image.width, bottom))
        return np.asarray(to_srgb(rows, white))

    return strip


def _whole(data: bytes | BinaryIO) -> bytes:
    if isinstance(data, bytes):
        return data
    data.seek(0)
    return data.read()


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
    profile, grey = image.info.get("icc_profile"), image.mode == "L"
    if not grey and is_srgb(profile):
        return pixels
    for top, bottom in strip_rows(image.width, image.height):
        rows = pixels[top:bottom]
        part = Image.fromarray(rows[..., 0] if grey else rows)
        rows[:] = np.asarray(convert_profile(part, profile, grey=grey))
    return pixels
