"""libvips gives the pixels that Pillow gives, so a view's key need not say who read the file."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.imaging.decode import ImageError, decode, peak_bytes
from tasks.imaging.header import open_image, orientation
from tasks.imaging.large import LARGE_PIXELS, decode_large, is_plain
from tests import odd_files

WIDTH, HEIGHT = 300, 200
TIFFS: dict[str, dict[str, object]] = {
    "plain": {},
    "lzw": {"compression": "lzw"},
    "deflate, predictor": {"compression": "deflate", "predictor": "horizontal"},
    "packbits": {"compression": "packbits"},
    "tiles": {"compression": "deflate", "tile": True, "tile_width": 64, "tile_height": 32},
    "BigTIFF": {"compression": "lzw", "bigtiff": True},
    "pyramid": {"compression": "lzw", "tile": True, "pyramid": True, "bigtiff": True},
    "pyramid of sub-images": {"tile": True, "pyramid": True, "subifd": True},
}
BANDS = {"grey": 1, "grey and alpha": 2, "RGB": 3, "RGB and alpha": 4}


def samples(bands: int, bits: int) -> np.ndarray:
    random = np.random.default_rng(bands * bits)
    kind = np.uint8 if bits == 8 else np.uint16
    pixels = random.integers(0, 1 << bits, (HEIGHT, WIDTH, bands), kind)
    pixels[: HEIGHT // 4] = (1 << bits) - 1  # opaque, where there is an alpha
    return pixels


def files() -> Iterator[tuple[str, Callable[[], bytes]]]:
    def vips(bands: int, bits: int) -> object:
        name = {8: ("b-w", "srgb"), 16: ("grey16", "rgb16")}[bits][bands > 2]
        return odd_files.vips(samples(bands, bits), name)

    for name, bands in BANDS.items():
        for bits in (8, 16):
            yield f"PNG {name} {bits}", lambda b=bands, n=bits: vips(b, n).pngsave_buffer()
            if (bands, bits) == (2, 16):
                continue  # Pillow refuses this TIFF
            for kind, options in TIFFS.items():
                yield (
                    f"TIFF {kind} {name} {bits}",
                    lambda b=bands, n=bits, o=options: vips(b, n).tiffsave_buffer(**o),
                )
    for quality in (60, 95):
        for bands in (3, 4):
            yield (
                f"WebP {bands} {quality}",
                lambda b=bands, q=quality: vips(b, 8).webpsave_buffer(Q=q),
            )
        yield (
            f"TIFF of JPEG {quality}",
            lambda q=quality: odd_files.vips(
                np.asarray(odd_files.photo(WIDTH, HEIGHT))
            ).tiffsave_buffer(compression="jpeg", Q=q),
        )
    yield "WebP lossless", lambda: vips(4, 8).webpsave_buffer(lossless=True)
    yield "TIFF CMYK", odd_files.cmyk_tiff
    yield "TIFF preview first", odd_files.preview_first_tiff


FILES = dict(files())


def both(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What libvips and what Pillow gives, from bytes."""
    image = open_image(data)
    assert is_plain(image)
    return decode_large(data, image, orientation(image)), decode(data)


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillow(name: str) -> None:
    large, usual = both(bytes(FILES[name]()))
    assert np.array_equal(large, usual)
    assert large.flags.c_contiguous and large.flags.writeable


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(format: str, turn: int) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    large, usual = both(odd_files.exif_rotated(turn, format, **options))
    assert np.array_equal(large, usual)
    assert np.array_equal(large, np.asarray(odd_files.photo()))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_profiles_and_transparency_mean_the_same(mode: str) -> None:
    data = odd_files.encoded(
        Image.fromarray(samples(4, 8), "RGBA").convert(mode),
        "PNG",
        icc_profile=odd_files.swapped_profile(),
    )
    large, usual = both(data)
    assert np.array_equal(large, usual)


def test_a_stream_is_read_as_bytes_are(tmp_path: Path) -> None:
    data = bytes(FILES["TIFF tiles RGB and alpha 8"]())
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with path.open("rb") as stream:
        image = open_image(stream)
        large = decode_large(stream, image, 1)
        assert np.array_equal(large, decode(stream_from_start(stream)))
    assert np.array_equal(large, decode(data))


def stream_from_start(stream: io.BufferedReader) -> io.BufferedReader:
    stream.seek(0)
    return stream


@pytest.mark.parametrize(
    "make",
    [
        odd_files.palette_png,
        odd_files.one_bit_png,
        odd_files.lab_tiff,
        odd_files.grey_float_tiff,
        odd_files.grey_int32_tiff,
        odd_files.animated_webp,
        odd_files.animated_gif,
        odd_files.cmyk_jpeg,
        lambda: odd_files.vips(samples(3, 8)).pngsave_buffer(interlace=True),
        lambda: odd_files.vips(samples(1, 8), "b-w").tiffsave_buffer(miniswhite=True),
        lambda: odd_files.encoded(odd_files.photo(), "PNG", transparency=(1, 2, 3)),
    ],
)
def test_what_libvips_might_read_otherwise_is_left_to_pillow(make: Callable[[], bytes]) -> None:
    assert not is_plain(open_image(bytes(make())))


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    "name", ["PNG RGB 8", "PNG grey 16", "TIFF lzw RGB 8", "TIFF plain RGB 16"]
)
def test_truncation_is_found(name: str, keep: float) -> None:
    data = bytes(FILES[name]())
    data = data[: int(len(data) * keep)]
    try:
        image = open_image(data)
    except ImageError:
        return  # the header says so already
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode_large(data, image, 1)


def test_random_damage_raises_nothing_but_image_error() -> None:
    random = np.random.default_rng(3)
    whole = [bytes(FILES[name]()) for name in ("PNG RGB 8", "TIFF tiles RGB 8", "WebP 3 60")]
    refused = 0
    for number in range(150):
        data = bytearray(whole[number % 3])
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        try:
            image = open_image(bytes(data), max_pixels=1_000_000)
            if is_plain(image):
                decode_large(bytes(data), image, orientation(image))
        except ImageError as error:
            refused += 1
            assert error.reason
    assert refused > 50


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_large_file_is_decoded_by_libvips_and_a_small_one_is_not(
    suffix: str, tmp_path: Path
) -> None:
    width, height = 10_000, LARGE_PIXELS // 10_000
    path = tmp_path / f"flat.{suffix}"
    flat = odd_files.vips(np.full((1, 1, 3), 77, np.uint8)).embed(
        0, 0, width, height, extend="copy"
    )
    options = {"compression": "deflate"} if suffix == "tif" else {}
    flat.write_to_file(str(path), **options)
    damaged = bytearray(path.read_bytes())
    with path.open("rb") as stream:
        pixels = decode(stream)
    assert pixels.shape == (height, width, 3)
    assert pixels.min() == pixels.max() == 77
    damaged[len(damaged) // 2] ^= 255
    with pytest.raises(ImageError, match="truncated or damaged"):  # Pillow says "damaged"
        decode(bytes(damaged))


def test_the_memory_that_decoding_takes_is_estimated_by_who_decodes() -> None:
    plain, progressive = (
        open_image(odd_files.encoded(odd_files.photo(), "JPEG", progressive=how))
        for how in (False, True)
    )
    pixels = 96 * 64
    assert peak_bytes(plain) == 4 * pixels
    assert peak_bytes(progressive) == 9 * pixels
    assert peak_bytes(open_image(odd_files.rgb16_png())) == 8 * pixels
    large = open_image(odd_files.bomb_png(10_000, 10_000))
    assert peak_bytes(large) == 4 * 10_000 * 10_000
