"""What the header of an image says, and how image files are opened at all."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

MAX_PIXELS = 400_000_000

# Pillow's own bomb guard is one number for the whole process: it would refuse scans of more than
# 179 megapixels, which we allow, and changing it around a call would race with other threads.
# So it is switched off once, here, under the import lock, and every opening below compares the
# header with the limit of its caller before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

# Content is sniffed, the file name never asked. A closed list keeps formats that start other
# programs (EPS) or read other files away from folders of unknown images.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF")

# What Pillow's plug-ins raise on damaged data. Running out of memory is not the file's fault.
FORMAT_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)

_SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
}


class ImageError(ValueError):
    """An image that cannot be used; `reason` is a sentence part for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from the header: size in pixels *after* orientation, Pillow's format and mode names."""

    width: int
    height: int
    format: str
    mode: str
    orientation: int
    frames: int


def probe(data: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Reads the header of an image; decodes nothing.

    Raises:
        ImageError: no image, an unknown format or more than `max_pixels`. Errors of the stream
            itself (network, permission) pass through, so that they can be tried again.
    """
    image = open_image(data, max_pixels=max_pixels)
    turn = orientation(image)
    width, height = oriented_size(image, turn)
    try:
        frames = int(getattr(image, "n_frames", 1))
    except FORMAT_ERRORS as error:
        # Only the first frame is used, so damage behind it does no harm.
        _pass_stream_trouble(error)
        frames = 1
    return Header(width, height, str(image.format), image.mode, turn, frames)


def open_image(data: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens an image lazily, within `max_pixels`; raises ImageError like `probe`."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    start = stream.read(16)
    if not start:
        raise ImageError("the file is empty (0 bytes)")
    stream.seek(0)
    try:
        image = Image.open(stream, formats=FORMATS)
    except FORMAT_ERRORS as error:
        raise image_error(error, _signature(start), start) from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            f"{image.width} x {image.height} = {pixels:,} pixels are more than "
            f"data.max_pixels = {max_pixels:,}: raise the limit if this is no decompression bomb"
        )
    return image


def image_error(error: Exception, name: str | None, start: bytes = b"") -> ImageError:
    """Turns an exception of a decoder into an ImageError; re-raises trouble of the stream."""
    if isinstance(error, ImageError):
        return error
    _pass_stream_trouble(error)
    if not isinstance(error, UnidentifiedImageError):
        return ImageError(f"damaged {name or 'image'} file: {str(error) or type(error).__name__}")
    if name is None:
        return ImageError(f"not an image of a known format: the file starts with {start!r}")
    return ImageError(f"damaged {name} file: its header cannot be read")


def orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation 1 to 8; 1 where none is given or it is nonsense."""
    if "exif" not in image.info and image.format == "PNG":
        late = _late_png_exif(image)
        if late is not None:
            image.info["exif"] = b"Exif\0\0" + late
    try:
        # The method of the base class: the one of PNG would decode the whole image first.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except FORMAT_ERRORS as error:
        _pass_stream_trouble(error)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def oriented_size(image: Image.Image, turn: int) -> tuple[int, int]:
    """Width and height of an opened image after orientation `turn`."""
    # Pillow's TIFF reader turns the image itself, and its size already says so.
    if turn >= 5 and image.format != "TIFF":
        return image.height, image.width
    return image.size


def _late_png_exif(image: Image.Image) -> bytes | None:
    """The eXIf chunk of a PNG, which may come after the pixels (ExifTool writes it there)."""
    stream = image.fp  # type: ignore[attr-defined]
    position = stream.tell()
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"eXIf":
                content: bytes = stream.read(length)
                return content
            stream.seek(length + 4, io.SEEK_CUR)
        return None
    finally:
        stream.seek(position)


def _pass_stream_trouble(error: Exception) -> None:
    """Re-raises what reading raised: decoding raises bare OSErrors without an errno."""
    bare = type(error) in (OSError, UnidentifiedImageError)
    if isinstance(error, OSError) and (error.errno is not None or not bare):
        raise error


def _signature(start: bytes) -> str | None:
    if start[4:8] == b"ftyp" and start[8:11] == b"avi":
        return "AVIF"
    return next((name for magic, name in _SIGNATURES.items() if start.startswith(magic)), None)
