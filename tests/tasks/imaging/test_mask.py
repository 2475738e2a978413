"""Masks: read by stated rules, cut and moved as the pixels are, averaged to latent cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tasks.imaging.augment import Values
from tasks.imaging.decode import ImageError, decode, probe
from tasks.imaging.mask import (
    alpha_mask,
    cut_masks,
    file_mask,
    mask_cells,
    may_be_transparent,
)
from tasks.imaging.sample_pixels import cut_samples
from tasks.imaging.views import View
from tests.odd_files import encoded, photo, truncated_png

LIMIT = 10**6
SIZE = (96, 64)


def half(width: int = 96, height: int = 64) -> np.ndarray:
    """The left half counts nothing, the right half fully."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 255
    return mask


def png(pixels: np.ndarray, **options: object) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG", **options)


# --- mask files ------------------------------------------------------------------------------


def test_grey_colour_one_bit_and_16_bit_masks_are_read_alike() -> None:
    grey = half()
    one_bit = encoded(Image.fromarray(grey).convert("1"), "PNG")
    deep = png(grey.astype(np.uint16) * 257)
    for data in (png(grey), png(np.repeat(grey[..., None], 3, axis=2)), one_bit, deep):
        assert np.array_equal(file_mask(data, SIZE, max_pixels=LIMIT), grey)


def test_a_mask_of_another_size_is_brought_to_its_image() -> None:
    for data in (png(half(48, 32)), png(half(960, 640))):
        assert np.array_equal(file_mask(data, SIZE, max_pixels=LIMIT), half())
    nearly = file_mask(png(half(960, 634)), SIZE, max_pixels=LIMIT)
    assert nearly.shape == (64, 96)


@pytest.mark.parametrize("size", [(64, 96), (96, 65), (94, 64)])
def test_another_shape_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]} x {size[1]}.*96 x 64.*more than 1%"):
        file_mask(png(half(*size)), SIZE, max_pixels=LIMIT)


@pytest.mark.parametrize("data", [b"", b"no picture at all", truncated_png()])
def test_a_broken_mask_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        file_mask(data, (320, 240), max_pixels=LIMIT)


def test_a_turned_mask_is_set_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(Image.fromarray(half()).rotate(90, expand=True), "PNG", exif=exif)
    assert np.array_equal(file_mask(data, SIZE, max_pixels=LIMIT), half())


# --- transparency ----------------------------------------------------------------------------


def transparent(mode: str) -> Image.Image:
    """A photo, opaque on its right half only."""
    image = photo(*SIZE).convert("RGBA")
    image.putalpha(Image.fromarray(half()))
    return image.convert(mode)


@pytest.mark.parametrize(("mode", "format"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF")])
def test_transparency_counts_by_its_opacity(mode: str, format: str) -> None:
    data = encoded(transparent(mode), format)
    assert np.array_equal(alpha_mask(data, max_pixels=LIMIT), half())


def test_lossless_webp_too() -> None:
    data = encoded(transparent("RGBA"), "WEBP", lossless=True)
    assert np.array_equal(alpha_mask(data, max_pixels=LIMIT), half())


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_one_transparent_colour_counts_nothing(mode: str) -> None:
    image = Image.fromarray(half()).convert(mode)
    black = image.getpixel((0, 0))
    data = encoded(image, "PNG", transparency=black)
    assert np.array_equal(alpha_mask(data, max_pixels=LIMIT), half())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_an_image_without_transparency_counts_whole(format: str) -> None:
    mask = alpha_mask(encoded(photo(*SIZE), format), max_pixels=LIMIT)
    assert mask.shape == (64, 96)
    assert (mask == 255).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_upright_as_the_pixels_are(turn: int, format: str) -> None:
    """The transparent quarter is the white one of the decoded pixels."""
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:20, :30] = 0
    image = Image.new("RGBA", SIZE, "black")
    image.putalpha(Image.fromarray(alpha))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    data = encoded(image, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    pixels = decode(data, max_pixels=LIMIT)
    mask = alpha_mask(data, max_pixels=LIMIT)
    assert mask.shape == pixels.shape[:2]
    assert np.array_equal(mask == 0, pixels[..., 0] == 255)


def test_whatever_is_transparent_may_be_so_by_its_header() -> None:
    files = [encoded(transparent(mode), "PNG") for mode in ("RGBA", "LA")]
    files += [encoded(transparent("RGBA"), format) for format in ("TIFF", "WEBP", "GIF", "AVIF")]
    for mode in ("1", "L", "P", "RGB"):
        image = Image.fromarray(half()).convert(mode)
        files.append(encoded(image, "PNG", transparency=image.getpixel((0, 0))))
    for data in files:
        header = probe(data)
        assert (alpha_mask(data, max_pixels=LIMIT) < 255).any(), header
        assert may_be_transparent(header.format, header.mode), header
    opaque = probe(encoded(photo(*SIZE), "JPEG"))
    assert not may_be_transparent(opaque.format, opaque.mode)


def test_a_truncated_transparent_image_is_refused() -> None:
    data = encoded(transparent("RGBA"), "PNG")
    with pytest.raises(ImageError):
        alpha_mask(data[: len(data) // 2], max_pixels=LIMIT)


# --- cells -----------------------------------------------------------------------------------


def test_a_cell_is_the_average_of_its_pixels() -> None:
    mask = np.arange(16 * 24, dtype=np.uint16).astype(np.uint8).reshape(16, 24)
    cells = mask_cells(mask, 8)
    assert (cells.shape, cells.dtype) == ((1, 2, 3), np.dtype(np.uint8))
    assert cells[0, 1, 2] == round(float(mask[8:, 16:].mean()))


@pytest.mark.parametrize("flip", [False, True])
def test_half_a_mask_is_half_the_cells(flip: bool) -> None:
    view = View("full", 0.0, (96, 64), (0, 0, 192, 128), (96, 64))
    ((_, cells),) = cut_masks(half(192, 128), {view: {b"k": {"flip": flip}}}, 8)
    assert cells.shape == (1, 8, 12)
    expected = np.repeat([255, 0] if flip else [0, 255], 6)
    assert (cells == expected).all()


VIEWS = st.sampled_from(
    [
        View("full", 0.0, (96, 67), (0, 0, 160, 112), (96, 64)),
        View("full", 0.0, (64, 64), (20, 3, 101, 101), (64, 64)),
        View("detail", 2.0, (183, 128), (64, 32, 64, 64), (64, 64)),
        View("context", 1.0, (91, 64), (27, 0, 64, 64), (64, 64)),
    ]
)


@settings(deadline=None)
@given(view=VIEWS, flip=st.booleans(), rotate=st.floats(-45, 45), seed=st.integers(0, 99))
def test_a_mask_lies_over_its_pixels(view: View, flip: bool, rotate: float, seed: int) -> None:
    """A picture of the mask, taken through every step of the pixels, shows the mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((112, 160), np.uint8)
    for _ in range(3):
        left, top = rng.integers(0, 120), rng.integers(0, 80)
        mask[top : top + 40, left : left + 40] = 255
    values: Values = {"flip": flip, "rotate": rotate, "contrast": 1.0}
    samples = {view: {b"k": values}}
    ((_, _, pixels),) = cut_samples(np.repeat(mask[..., None], 3, axis=2), samples)
    ((_, cells),) = cut_masks(mask, samples, 8)
    seen = mask_cells(np.ascontiguousarray(pixels[..., 0]), 8).astype(int)
    assert np.abs(cells - seen).max() <= 24
    assert np.abs(cells - seen).mean() < 4
