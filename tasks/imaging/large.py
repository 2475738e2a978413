"""Very large PNG, TIFF and WebP files, read by libvips in strips.

Pillow holds 4 bytes per pixel until its conversion is done, which does not fit beside the result
for an image of some hundred megapixels; libvips holds a few rows. Both give the same numbers (a
test compares them), and what they mean is decided by `colour` for either, so it makes no difference
to a view's key who has read it.
"""

from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from tasks.imaging.colour import SIXTEEN_BIT_WHITE, to_srgb, white_level
from tasks.imaging.header import ImageError
from tasks.imaging.strips import Strip, assemble

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

LARGE_PIXELS = 64_000_000

_LOADERS = {"PNG": "pngload_source", "TIFF": "tiffload_source", "WEBP": "webpload_source"}
_BITS, _COMPRESSION, _PHOTOMETRIC, _EXTRA_SAMPLES, _FORMAT = 258, 259, 262, 338, 339
_SAMPLE_BITS = {"RGB": (8, 16), "RGBA": (8, 16), "L": (8,), "LA": (8,), "I;16": (16,), "CMYK": (8,)}
# None, LZW, JPEG, Deflate (two numbers), PackBits; grey (black is 0), RGB, CMYK, YCbCr of JPEG.
_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)
_PHOTOMETRICS = {"L": (1,), "LA": (1,), "I;16": (1,), "CMYK": (5,), "RGB": (2, 6), "RGBA": (2,)}
_BANDS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def is_plain(image: Image.Image) -> bool:
    """Whether libvips reads this image as Pillow does."""
    if image.format == "PNG":
        # Interlaced rows come last to first: libvips would hold them all.
        plain = not image.info.get("interlace") and "transparency" not in image.info
        return plain and image.mode in ("RGB", "RGBA", "L", "LA", "I;16")
    if image.format == "WEBP":
        return getattr(image, "n_frames", 1) == 1 and image.mode in ("RGB", "RGBA")
    return image.format == "TIFF" and _is_plain_tiff(image)


def decode_large(data: bytes | BinaryIO, image: Image.Image, turn: int) -> "Pixels":
    """Upright sRGB pixels of an image that `is_plain`; raises ImageError where it is damaged."""
    import pyvips

    try:
        source = _open(data, image)
        if (source.width, source.height) != _stored_size(image, turn):
            raise ImageError(f"damaged {image.format} file: its headers contradict each other")
        return assemble(source.width, source.height, turn, _strips(source, image))
    except pyvips.Error as error:
        told = " ".join(str(error.detail or error).split())
        raise ImageError(f"truncated or damaged {image.format} file: {told}") from error


def _is_plain_tiff(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    bits = set(tags.get(_BITS, (1,)))
    return (
        len(bits) == 1
        and bits <= set(_SAMPLE_BITS.get(image.mode, ()))
        and set(tags.get(_FORMAT, (1,))) == {1}
        and tags.get(_COMPRESSION, 1) in _COMPRESSIONS
        and tags.get(_PHOTOMETRIC) in _PHOTOMETRICS[image.mode]
        # Opacity that is not multiplied into the colours; anything else is no matter of course.
        and tuple(tags.get(_EXTRA_SAMPLES, ())) == ((2,) if image.mode in ("RGBA", "LA") else ())
    )


def _open(data: bytes | BinaryIO, image: Image.Image) -> Any:
    vips = _vips()
    if isinstance(data, bytes):
        source = vips.Source.new_from_memory(data)
    else:
        data.seek(0)
        source = vips.Source.new_from_descriptor(data.fileno())
    options: dict[str, Any] = {"page": image.tell()} if image.format == "TIFF" else {}
    load = getattr(vips.Image, _LOADERS[str(image.format)])
    return load(source, access="sequential", fail_on="error", **options)


def _strips(source: Any, image: Image.Image) -> Strip:
    """Reads rows in the mode that Pillow has for them, and converts them as `decode` does."""
    grey16 = image.mode == "I;16"
    if source.format == "ushort" and not grey16:
        source = source.msb()
    region, bands = _vips().Region.new(source), source.bands
    mode = "I;16" if grey16 else "CMYK" if image.mode == "CMYK" else _BANDS[bands]
    info: dict[str | tuple[int, int], Any] = {"icc_profile": image.info.get("icc_profile")}
    white = white_level(image) if grey16 else SIXTEEN_BIT_WHITE

    def strip(top: int, bottom: int) -> "Pixels":
        size = (source.width, bottom - top)
        rows = Image.frombuffer(mode, size, region.fetch(0, top, *size), "raw", mode, 0, 1)
        rows = rows if mode == image.mode else rows.convert(image.mode)
        rows.info = info
        return np.asarray(to_srgb(rows, white))

    return strip


def _stored_size(image: Image.Image, turn: int) -> tuple[int, int]:
    """Pillow gives the size of a TIFF as it will be after turning."""
    width, height = image.size
    return (height, width) if image.format == "TIFF" and turn >= 5 else (width, height)


@lru_cache(maxsize=1)
def _vips() -> ModuleType:
    import pyvips

    # Its cache of operations would keep files open and pixels in memory.
    pyvips.cache_set_max(0)
    module: ModuleType = pyvips
    return module
