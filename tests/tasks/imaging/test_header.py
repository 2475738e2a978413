"""What a header tells: which format, which page of several, and which extra is missing."""

import io
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from tasks.imaging.decode import ImageError, decode, probe
from tasks.imaging.formats import EXTRAS, outdated_refusals, signature
from tasks.imaging.header import Header, frames_note, open_image
from tasks.imaging.jpeg import plain_jpeg
from tasks.imaging.jxl import jxl_size
from tests import odd_files
from tests.photos import make_photo

PHOTO = np.asarray(odd_files.photo())
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
AVIF_IN_MIF1 = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"
# The first bytes of files that libjxl wrote, lossy and lossless.
JXL = {
    "ff0a0f070013080100c57067": (96, 64),
    "ff0a0f4124080001000e3100": (96, 64),
    "ff0a2210e87c0c0013080100": (1000, 517),
    "ff0a2210e87c804808020100": (1000, 517),
    "ff0a7a3e1f00130801006c60": (4000, 2000),
    "ff0ada1540c00013080100f0": (3, 700),
    "ff0aba2108f00c0013080100": (1921, 1080),
}
JXL_BARE = bytes.fromhex(next(iter(JXL)))


# --- pages and frames --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "frames", "note"),
    [
        (odd_files.animated_gif, 2, "animated: 2 frames, the first one is used"),
        (odd_files.animated_webp, 2, "animated: 2 frames, the first one is used"),
        (odd_files.animated_png, 24, "animated: 24 frames, the first one is used"),
        (odd_files.animated_avif, 3, "animated: 3 frames, the first one is used"),
        (odd_files.paged_tiff, 3, "3 pages, the first one is used"),
        (odd_files.pyramid_tiff, 1, None),
        (odd_files.preview_first_tiff, 1, None),
        (odd_files.jpeg_as_png, 1, None),
    ],
)
def test_several_pictures_in_a_file_are_told(
    make: Callable[[], bytes], frames: int, note: str | None
) -> None:
    header = probe(make())
    assert header.frames == frames
    assert (header.width, header.height) == (96, 64)
    assert frames_note(header.format, header.frames) == note


@pytest.mark.parametrize("make", [odd_files.animated_png, odd_files.animated_avif])
def test_the_first_frame_is_used(make: Callable[[], bytes]) -> None:
    red, green, blue = decode(make())[10, 10].astype(int)
    assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize(
    "make", [odd_files.pyramid_tiff, odd_files.preview_first_tiff, odd_files.paged_tiff]
)
def test_of_a_tiff_the_first_full_picture_is_used(make: Callable[[], bytes]) -> None:
    assert np.array_equal(decode(make()), PHOTO)


def test_damage_in_another_page_does_no_harm() -> None:
    data = odd_files.paged_tiff()
    with Image.open(io.BytesIO(data)) as image:
        second = image._frame_pos[0] if image.seek(1) else image._frame_pos[1]  # type: ignore[attr-defined]
    damaged = data[: second + 2] + b"\xff" * 40 + data[second + 42 :]
    header = probe(damaged)
    assert (header.width, header.height, header.orientation) == (96, 64, 1)
    assert np.array_equal(decode(damaged), PHOTO)


# --- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"II+\0\x08\0\0\0", "BigTIFF"),
        (b"MM\0+\0\x08\0\0", "BigTIFF"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (HEIC, "HEIC"),
        (AVIF_IN_MIF1, "AVIF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (b"\xff\x0a\0", "JXL"),
        (b"\0\0\0\x18ftypisom", None),
        (b"plain text", None),
    ],
)
def test_signatures(start: bytes, name: str | None) -> None:
    assert signature(start) == name


def test_a_damaged_bigtiff_is_called_so() -> None:
    with pytest.raises(ImageError, match="damaged BigTIFF file"):
        probe(odd_files.pyramid_tiff()[:30])


@pytest.mark.parametrize(("data", "name"), [(HEIC, "HEIC"), (JXL_BARE, "JXL")])
def test_a_format_without_its_extra_says_what_to_install(data: bytes, name: str) -> None:
    module, package = EXTRAS[name]
    with pytest.raises(ImageError) as caught:
        probe(data)
    if find_spec(module):
        assert caught.value.reason not in outdated_refusals()
        return
    extra = f"tilewright[{name.lower()}] (the package {package})"
    assert caught.value.reason == f"{name} images need an extra: install {extra}"
    assert outdated_refusals() == [] or name not in str(outdated_refusals())


@pytest.mark.parametrize(("name", "format"), [("HEIC", "HEIF"), ("JXL", "JXL")])
def test_a_format_with_its_extra_is_read_upright(name: str, format: str) -> None:
    module = pytest.importorskip(EXTRAS[name][0])
    if name == "HEIC":
        module.register_heif_opener()
        exif = Image.Exif()
        exif[274] = 6
        turned = odd_files.photo().transpose(Image.Transpose.ROTATE_90)
        data = odd_files.encoded(turned, format, quality=95, exif=exif.tobytes())
    else:
        data = odd_files.encoded(odd_files.photo(), format, quality=95)
    header = probe(data)
    assert (header.width, header.height, header.format, header.orientation) == (96, 64, format, 1)
    assert np.abs(decode(data).astype(int) - PHOTO).mean() < 8
    with pytest.raises(ImageError, match=r"data\.max_pixels = 6,143"):
        probe(data, max_pixels=6143)


# --- quick readers -----------------------------------------------------------------------------


def jpegs() -> list[bytes]:
    photo, grey = odd_files.photo(), odd_files.photo().convert("L")
    made = [make_photo(96, 64, 1), odd_files.grey_jpeg(), odd_files.profile_image(b"x" * 99)]
    for options in ({}, {"progressive": True}, {"subsampling": 1}, {"comment": b"hello"}):
        made += [odd_files.encoded(image, "JPEG", **options) for image in (photo, grey)]
    return made


def by_pillow(data: bytes) -> Header:
    """Through a stream the quick reader is never asked."""
    return probe(io.BytesIO(data))


@pytest.mark.parametrize("number", range(len(jpegs())))
def test_a_plain_jpeg_header_is_what_pillow_says(number: int) -> None:
    data = jpegs()[number]
    found = plain_jpeg(data)
    assert found is not None
    assert probe(data) == by_pillow(data) == Header(*found[:2], "JPEG", found[2], 1, 1)


@pytest.mark.parametrize(
    "make",
    [
        odd_files.exif_rotated_jpeg,
        odd_files.cmyk_jpeg,
        odd_files.header_only_jpeg,
        lambda: odd_files.encoded(
            odd_files.photo(), "MPO", save_all=True, append_images=[odd_files.photo(48, 32)]
        ),
        lambda: odd_files.encoded(odd_files.photo(), "JPEG", xmp=b"<x:xmpmeta/>"),
    ],
)
def test_any_other_jpeg_is_left_to_pillow(make: Callable[[], bytes]) -> None:
    assert plain_jpeg(make()) is None


def test_the_pixel_limit_holds_for_a_plain_jpeg() -> None:
    with pytest.raises(ImageError, match=r"96 x 64 = 6,144 pixels .* data\.max_pixels = 6,143"):
        probe(make_photo(96, 64, 1), max_pixels=6143)


def test_a_damaged_header_is_never_read_otherwise_than_by_pillow() -> None:
    random, agreed = np.random.default_rng(4), 0
    for data in jpegs():
        for _ in range(60):
            damaged = bytearray(data)
            for place in random.integers(2, 700, 2):
                damaged[place % len(damaged)] = random.integers(256)
            found = plain_jpeg(bytes(damaged))
            if found is None:
                continue
            try:
                image = open_image(bytes(damaged))
            except ImageError:
                continue  # found when it is decoded
            agreed += 1
            assert (*image.size, image.mode) == found
    assert agreed > 100


@pytest.mark.parametrize("start", JXL)
def test_the_size_in_a_jxl_header(start: str) -> None:
    stream = bytes.fromhex(start)
    box = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
    whole = (len(stream) + 8).to_bytes(4, "big") + b"jxlc" + stream
    part = (len(stream) + 12).to_bytes(4, "big") + b"jxlp" + bytes(4) + stream
    assert jxl_size(stream) == jxl_size(box + whole) == jxl_size(box + part) == JXL[start]
    assert jxl_size(box) is None
