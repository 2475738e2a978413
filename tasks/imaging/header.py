"""What the header of an image says, and how image files are opened at all."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from tasks.imaging.formats import (
    EXTRAS,
    FORMATS,
    SIGNATURE_BYTES,
    extra_format,
    refusal,
    signature,
)
from tasks.imaging.jpeg import plain_jpeg
from tasks.imaging.jxl import jxl_size

MAX_PIXELS = 400_000_000

# Pillow's own bomb guard is one number for the whole process: it would refuse scans of more than
# 179 megapixels, which we allow, and changing it around a call would race with other threads.
# So it is switched off once, here, under the import lock, and every opening below compares the
# header with the limit of its caller before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

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

_HEADER_BYTES = 1 << 16
# NewSubfileType: a page that is a smaller copy (a level of a pyramid, a preview) or a mask.
_SUBFILE_TYPE, _NOT_A_PICTURE = 254, 1 | 4


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
    """Pictures in the file; the smaller copies of a pyramidal TIFF are none."""


def probe(data: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Reads the header of an image; decodes nothing.

    Raises:
        ImageError: no image, an unknown format or more than `max_pixels`. Errors of the stream
            itself (network, permission) pass through, so that they can be tried again.
    """
    if isinstance(data, bytes) and data.startswith(b"\xff\xd8\xff"):
        plain = plain_jpeg(data)
        if plain is not None:
            _check_size(plain[0], plain[1], max_pixels)
            return Header(*plain[:2], "JPEG", plain[2], 1, 1)
    image = open_image(data, max_pixels=max_pixels)
    turn = orientation(image)
    width, height = oriented_size(image, turn)
    return Header(width, height, str(image.format), image.mode, turn, _num_frames(image))


def open_image(data: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens an image lazily, within `max_pixels`; raises ImageError like `probe`."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    start = stream.read(SIGNATURE_BYTES)
    if not start:
        raise ImageError("the file is empty (0 bytes)")
    stream.seek(0)
    name = signature(start)
    formats: tuple[str, ...] = FORMATS
    if name in EXTRAS:
        formats = (_extra(name, stream, max_pixels),)
    try:
        image = Image.open(stream, formats=formats)
        if image.format == "TIFF":
            image.seek(_first_picture(image))
    except FORMAT_ERRORS as error:
        raise image_error(error, name, start[:16]) from error
    _check_size(*image.size, max_pixels)
    return image


def frames_note(image_format: str, frames: int) -> str | None:
    """What a person should know of a file with several pictures, or None.

    That a phone's photo carries a preview or a depth map (MPO, HEIF) is nothing to know.
    """
    if frames < 2 or image_format in ("MPO", "HEIF"):
        return None
    if image_format == "TIFF":
        return f"{frames} pages, the first one is used"
    return f"animated: {frames} frames, the first one is used"


def image_error(error: Exception, name: str | None, start: bytes = b"") -> ImageError:
    """Turns an exception of a decoder into an ImageError; re-raises trouble of the stream."""
    if isinstance(error, ImageError):
        return error
    _pass_stream_trouble(error)
    if not isinstance(error, UnidentifiedImageError):
        return ImageError(f"damaged {name or 'image'} file: {str(error) or type(error).__name__}")
    if name is None:
        begins = repr(start).removeprefix("b")
        return ImageError(f"not an image of a known format: the file starts with {begins}")
    return ImageError(f"damaged {name} file: its header cannot be read")


def orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation 1 to 8; 1 where none is given or it is nonsense."""
    if "exif" not in image.info and image.format == "PNG":
        late = _late_png_exif(image)
        if late is not None:
            image.info["exif"] = b"Exif\0\0" + late
    if image.format == "JXL":
        return 1  # its decoder has turned it; what EXIF says is but a memory of the original
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


def _extra(name: str, stream: BinaryIO, max_pixels: int) -> str:
    """Pillow's name of a format that needs an extra; raises ImageError without the extra."""
    found = extra_format(name)
    if found is None:
        raise ImageError(refusal(name))
    if name == "JXL":
        size = jxl_size(stream.read(_HEADER_BYTES))
        stream.seek(0)
        if size is None:
            raise ImageError("damaged JXL file: its header cannot be read")
        _check_size(*size, max_pixels)
    return found


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} = {width * height:,} pixels are more than "
            f"data.max_pixels = {max_pixels:,}: raise the limit if this is no decompression bomb"
        )


def _num_frames(image: Image.Image) -> int:
    # Only one frame is used, so damage in another does no harm.
    try:
        if image.format == "TIFF":
            return len(_pictures(image)) or 1
        return int(getattr(image, "n_frames", 1))
    except FORMAT_ERRORS as error:
        _pass_stream_trouble(error)
        return 1


def _first_picture(image: Image.Image) -> int:
    """The page of a TIFF to use: the first that is no smaller copy of another."""
    if not _is_copy(image):
        return 0
    return next(iter(_pictures(image)), 0)


def _pictures(image: Image.Image) -> list[int]:
    """The pages of a TIFF that are pictures of their own; leaves the image at the page it is at."""
    at, found = image.tell(), []
    for page in range(int(getattr(image, "n_frames", 1))):
        image.seek(page)
        if not _is_copy(image):
            found.append(page)
    image.seek(at)
    return found


def _is_copy(image: Image.Image) -> bool:
    kind = getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0)
    return isinstance(kind, int) and bool(kind & _NOT_A_PICTURE)
