import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.report.thumbnails import make_thumbnail

PHOTOS = Path(__file__).parents[3] / "deployments" / "demo" / "photos"


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG" and image.mode == "RGB"
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("path", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.stem)
def test_photographs_keep_their_look(path: Path) -> None:
    image = opened(make_thumbnail(path.read_bytes()))
    original = Image.open(path)
    assert max(image.size) == min(320, max(original.size))
    small = original.resize(image.size, Image.Resampling.BICUBIC)
    difference = np.asarray(image, np.float32) - np.asarray(small, np.float32)
    assert np.abs(difference).mean() < 4


def test_orientation_is_applied() -> None:
    pixels = np.zeros((400, 800, 3), np.uint8)
    pixels[:, :400] = 255
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise: left becomes top
    image = opened(make_thumbnail(saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)))
    assert image.size == (160, 320)
    turned = np.asarray(image)
    assert turned[:140].mean() > 250 and turned[-140:].mean() < 5


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.full((50, 60), 32768, np.uint16)
    image = opened(make_thumbnail(saved(Image.fromarray(values), "PNG")))
    assert image.size == (60, 50)
    assert abs(float(np.asarray(image).mean()) - 128) < 2


def test_transparency_lies_on_white() -> None:
    data = saved(Image.new("RGBA", (40, 40), (255, 0, 0, 0)), "PNG")
    assert np.asarray(opened(make_thumbnail(data))).min() > 250


def test_small_images_are_not_enlarged() -> None:
    assert opened(make_thumbnail(saved(Image.new("RGB", (8, 4)), "PNG"))).size == (8, 4)


@pytest.mark.parametrize("data", [b"", b"hello world", b"\xff\xd8\xff\xe0 no jpeg"])
def test_no_image_gives_none(data: bytes) -> None:
    assert make_thumbnail(data) is None


def test_a_truncated_photograph_gives_none() -> None:
    data = (PHOTOS / "espresso-cup.jpg").read_bytes()
    assert make_thumbnail(data[: len(data) // 2]) is None


def test_the_pixel_limit_holds() -> None:
    data = saved(Image.new("RGB", (100, 100)), "PNG")
    assert make_thumbnail(data, max_pixels=9_999) is None
    assert make_thumbnail(data, max_pixels=10_000) is not None
