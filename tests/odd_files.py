"""Odd image files as bytes: broken ones, and good ones that naive readers get wrong."""

import io
import struct
import zlib

import numpy as np
import pyvips
from PIL import ExifTags, Image, ImageCms

from tests.photos import make_photo, photo_pixels

_UPRIGHT_TO_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)  # type: ignore[arg-type]
    return out.getvalue()


def photo(width: int = 96, height: int = 64, seed: int = 1) -> Image.Image:
    return Image.fromarray(photo_pixels(width, height, seed))


# --- broken ---------------------------------------------------------------------------------


def empty() -> bytes:
    return b""


def text_as_png() -> bytes:
    return b"This is not a picture, whatever the file is called.\n" * 20


def truncated_jpeg(keep: float = 0.6) -> bytes:
    data = make_photo(320, 240, seed=3)
    return data[: int(len(data) * keep)]


def truncated(format: str, keep: float = 0.6, **options: object) -> bytes:
    data = encoded(photo(320, 240, seed=3), format, **options)
    return data[: int(len(data) * keep)]


def truncated_png(keep: float = 0.6) -> bytes:
    return truncated("PNG", keep)


def header_only_jpeg() -> bytes:
    return make_photo(320, 240, seed=3)[:40]


def bomb_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes whose header promises billions of pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + crc(name + content)

    def crc(data: bytes) -> bytes:
        return struct.pack(">I", zlib.crc32(data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


BROKEN = {
    "empty": empty,
    "text_as_png": text_as_png,
    "truncated_jpeg": truncated_jpeg,
    "truncated_png": truncated_png,
    "header_only_jpeg": header_only_jpeg,
    "bomb_png": bomb_png,
}


# --- good, but odd ---------------------------------------------------------------------------


def jpeg_as_png() -> bytes:
    """A good JPEG, to be written with the wrong extension."""
    return make_photo(96, 64, seed=1)


def cmyk_jpeg() -> bytes:
    """`photo()` as a CMYK JPEG with inverted values, as Adobe programs write them."""
    return encoded(photo().convert("CMYK"), "JPEG", quality=95)


def grey_jpeg() -> bytes:
    return encoded(photo().convert("L"), "JPEG", quality=95)


def grey16_png(mean: int = 106) -> bytes:
    """A 16-bit grey ramp whose mean is `mean` on the 8-bit scale."""
    ramp = np.linspace((mean - 50) * 257, (mean + 50) * 257, 96 * 64).reshape(64, 96)
    return encoded(Image.fromarray(ramp.round().astype(np.uint16)), "PNG")


def grey_float_tiff(low: float = 0.0, high: float = 1.0) -> bytes:
    ramp = np.linspace(low, high, 96 * 64, dtype=np.float32).reshape(64, 96)
    return encoded(Image.fromarray(ramp), "TIFF")


def grey_int32_tiff(high: int = 65535) -> bytes:
    ramp = np.linspace(0, high, 96 * 64).reshape(64, 96).astype(np.int32)
    return encoded(Image.fromarray(ramp), "TIFF")


def transparent_png(alpha: int = 0, mode: str = "RGBA") -> bytes:
    """Left half opaque red (RGBA) or black (LA), right half the same with `alpha`."""
    image = Image.new("RGBA", (96, 64), (255, 0, 0, 255) if mode == "RGBA" else (0, 0, 0, 255))
    image.paste((*image.getpixel((0, 0))[:3], alpha), (48, 0, 96, 64))  # type: ignore[index]
    return encoded(image.convert(mode), "PNG")


def palette_png() -> bytes:
    """Palette image: colour 0 (left half) is transparent, colour 1 is blue."""
    image = Image.new("P", (96, 64), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (48, 0, 96, 64))
    return encoded(image, "PNG", transparency=0)


def lab_tiff() -> bytes:
    """`photo()` in CIE Lab."""
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    return encoded(ImageCms.applyTransform(photo(), to_lab), "TIFF")  # type: ignore[arg-type]


def animated(format: str, frames: int = 2, **options: object) -> bytes:
    """First frame red, then blue and green in turns."""
    colours = ["red", *("blue" if number % 2 else "green" for number in range(1, frames))]
    images = [Image.new("RGB", (96, 64), colour) for colour in colours]
    return encoded(images[0], format, save_all=True, append_images=images[1:], **options)


def animated_gif() -> bytes:
    return animated("GIF")


def animated_webp() -> bytes:
    return animated("WEBP", lossless=True)


def animated_png() -> bytes:
    return animated("PNG", frames=24)


def animated_avif() -> bytes:
    return animated("AVIF", frames=3, quality=100, subsampling="4:4:4")


def vips(pixels: np.ndarray, interpretation: str = "srgb") -> pyvips.Image:
    return pyvips.Image.new_from_array(pixels, interpretation=interpretation)


def rgb16(width: int = 96, height: int = 64) -> np.ndarray:
    """`photo()` with 16 bits per channel; the low bytes are noise."""
    noise = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint16)
    return np.asarray(photo(width, height)).astype(np.uint16) * 256 + noise


def rgb16_png() -> bytes:
    return bytes(vips(rgb16(), "rgb16").pngsave_buffer())


def rgb16_tiff() -> bytes:
    return bytes(vips(rgb16(), "rgb16").tiffsave_buffer(compression="deflate"))


def grey16_tiff(mean: int = 106) -> bytes:
    with Image.open(io.BytesIO(grey16_png(mean))) as grey:
        return encoded(grey, "TIFF")


def one_bit_png() -> bytes:
    return encoded(photo().convert("1"), "PNG")


def cmyk_tiff() -> bytes:
    return encoded(photo().convert("CMYK"), "TIFF")


def pyramid_tiff(width: int = 96, height: int = 64, **options: object) -> bytes:
    """A tiled BigTIFF with smaller copies of `photo()` behind it, as scanners of slides write."""
    tiles = {"tile": True, "tile_width": 32, "tile_height": 32, "pyramid": True, "bigtiff": True}
    image = vips(np.asarray(photo(width, height)))
    return bytes(image.tiffsave_buffer(**{"compression": "lzw", **tiles, **options}))


def preview_first_tiff() -> bytes:
    """A TIFF whose first page is a small preview, marked as such, of the second."""
    whole = photo()
    whole.encoderinfo = {"tiffinfo": {254: 0}}  # type: ignore[attr-defined]
    options = {"save_all": True, "append_images": [whole], "tiffinfo": {254: 1}}
    return encoded(photo(24, 16), "TIFF", **options)


def paged_tiff(pages: int = 3) -> bytes:
    """A document of several pages; the first is `photo()`."""
    others = [photo(96, 64, seed) for seed in range(2, pages + 1)]
    return encoded(photo(), "TIFF", save_all=True, append_images=others)


def exif_rotated(orientation: int, format: str, **options: object) -> bytes:
    """`photo()` stored turned, with the EXIF orientation that turns it upright."""
    stored = photo()
    if orientation in _UPRIGHT_TO_STORED:
        stored = stored.transpose(_UPRIGHT_TO_STORED[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(stored, format, exif=exif, **options)


def exif_rotated_jpeg(orientation: int = 6) -> bytes:
    return exif_rotated(orientation, "JPEG", quality=95, subsampling=0)


def late_exif_png(orientation: int = 6) -> bytes:
    """A PNG whose eXIf chunk comes after the pixels, as ExifTool writes it."""
    data = exif_rotated(orientation, "PNG")
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    return data[:start] + data[end:-12] + data[start:end] + data[-12:]


def stray_bytes_jpeg() -> bytes:
    """A complete JPEG with stray bytes before its end marker, as some phones write it."""
    data = make_photo(96, 64, seed=1)
    return data[:-2] + b"\x00\x00\x00" + data[-2:]


def swapped_profile() -> bytes:
    """The sRGB profile with its red and blue primaries exchanged: impossible to overlook."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def profile_image(profile: bytes, format: str = "JPEG") -> bytes:
    options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
    return encoded(photo(), format, icc_profile=profile, **options)
