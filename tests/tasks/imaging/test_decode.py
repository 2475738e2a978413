import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from tasks.imaging.decode import ImageError, decode, probe
from tests import odd_files
from tests.photos import make_photo, photo_pixels

PHOTO = photo_pixels(96, 64, 1).astype(int)
FORMATS = [
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]
ORIENTABLE = [entry for entry in FORMATS if entry[0] != "BMP"]


def difference(pixels: np.ndarray, expected: np.ndarray = PHOTO) -> float:
    return float(np.abs(pixels.astype(int) - expected).mean())


@pytest.mark.parametrize(("format", "options"), FORMATS)
def test_every_format_gives_its_pixels(format: str, options: dict[str, object]) -> None:
    data = odd_files.encoded(odd_files.photo(), format, **options)
    pixels = decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    assert difference(pixels) < 2
    header = probe(io.BytesIO(data))
    assert (header.width, header.height, header.format, header.frames) == (96, 64, format, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "options"), ORIENTABLE)
def test_orientation_is_applied(format: str, options: dict[str, object], orientation: int) -> None:
    data = odd_files.exif_rotated(orientation, format, **options)
    header = probe(data)
    assert (header.width, header.height, header.orientation) == (96, 64, orientation)
    assert difference(decode(data)) < 2


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    data = odd_files.late_exif_png(8)
    assert (probe(data).width, probe(data).orientation) == (96, 8)
    assert difference(decode(data)) == 0


def test_nonsense_exif_is_ignored() -> None:
    data = odd_files.encoded(odd_files.photo(), "PNG", exif=b"Exif\0\0garbage garbage")
    assert probe(data).orientation == 1
    assert difference(decode(data)) == 0


# --- broken files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", odd_files.BROKEN)
def test_broken_files_say_why(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(odd_files.BROKEN[name]())
    words = {
        "empty": "empty (0 bytes)",
        "text_as_png": "not an image",
        "truncated_jpeg": "truncated or damaged JPEG",
        "truncated_png": "truncated",
        "header_only_jpeg": "damaged JPEG",
        "bomb_png": "60000 x 60000 = 3,600,000,000 pixels",
    }
    assert words[name] in caught.value.reason


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    ("format", "options"), [*FORMATS, ("JPEG", {"progressive": True}), ("GIF", {})]
)
def test_truncation_is_always_found(format: str, options: dict[str, object], keep: float) -> None:
    with pytest.raises(ImageError):
        decode(odd_files.truncated(format, keep, **options))


def test_a_jpeg_that_lacks_only_its_end_marker_is_truncated() -> None:
    with pytest.raises(ImageError, match="Premature end"):
        decode(make_photo(320, 240, 3)[:-2])


def test_damage_that_derails_the_jpeg_decoder_is_found() -> None:
    data = make_photo(640, 480, 3)
    rng = np.random.default_rng(1)
    found = 0
    for start in rng.integers(1000, len(data) - 1000, 50):
        damaged = data[:start] + rng.bytes(40) + data[start + 40 :]
        try:
            decode(damaged)
        except ImageError:
            found += 1
    # The rest decodes to the very end: no decoder can know.
    assert found >= 30


def test_stray_bytes_before_the_end_marker_do_no_harm() -> None:
    whole, stray = decode(odd_files.jpeg_as_png()), decode(odd_files.stray_bytes_jpeg())
    assert np.array_equal(whole, stray)


def test_the_limit_is_the_callers() -> None:
    data = make_photo(96, 64, 1)
    assert decode(data, max_pixels=96 * 64).shape == (64, 96, 3)
    for read in (probe, decode):
        with pytest.raises(ImageError, match=r"96 x 64 = 6,144 pixels .* data\.max_pixels = 6,143"):
            read(data, max_pixels=6143)


def test_more_pixels_than_pillow_allows_are_a_matter_of_our_limit() -> None:
    data = odd_files.bomb_png(20_000, 10_000)
    assert probe(data).width == 20_000


def test_random_damage_raises_nothing_but_image_error() -> None:
    rng = np.random.default_rng(5)
    files = [odd_files.encoded(odd_files.photo(), name, **options) for name, options in FORMATS]
    files += [odd_files.cmyk_jpeg(), odd_files.grey16_png(), odd_files.animated_gif()]
    files += [odd_files.exif_rotated_jpeg(), odd_files.late_exif_png(), odd_files.palette_png()]
    for number in range(600):
        data = bytearray(files[number % len(files)])
        for place in rng.integers(0, min(len(data), 800), 3):
            data[place] = rng.integers(256)
        try:
            header = probe(bytes(data), max_pixels=1_000_000)
            assert decode(bytes(data), max_pixels=1_000_000).shape[:2] == (
                header.height,
                header.width,
            )
        except ImageError as error:
            assert error.reason


@pytest.mark.parametrize("trouble", [TimeoutError("slow"), OSError(5, "I/O"), FileNotFoundError()])
def test_trouble_of_the_stream_is_not_the_images_fault(trouble: OSError) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 20:
                raise trouble
            return super().read(size)

    with pytest.raises(type(trouble)) as caught:
        probe(Failing(make_photo(96, 64, 1)))
    assert not isinstance(caught.value, ImageError)


# --- colour ----------------------------------------------------------------------------------


def test_wrong_extension_is_no_matter() -> None:
    assert probe(odd_files.jpeg_as_png()).format == "JPEG"


def test_jpeg_is_bit_equal_to_pillow() -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 1}, {"subsampling": 0}):
        data = odd_files.encoded(odd_files.photo(320, 200), "JPEG", **options)
        assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    pixels = decode(odd_files.grey16_png(mean=106))
    assert abs(pixels.mean() - 106) < 0.5
    assert (pixels.min(), pixels.max()) == (56, 156)


def test_floating_point_grey_has_a_rule() -> None:
    pixels = decode(odd_files.grey_float_tiff(0, 1))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert abs(pixels.mean() - 127.5) < 0.5
    for low, high in ((0, 255), (-1, 1), (0, float("nan"))):
        with pytest.raises(ImageError, match="floating point samples"):
            decode(odd_files.grey_float_tiff(low, high))


def test_32_bit_grey_has_a_rule() -> None:
    assert decode(odd_files.grey_int32_tiff(65535)).max() == 255
    with pytest.raises(ImageError, match="integer samples from 0 to 70000"):
        decode(odd_files.grey_int32_tiff(70000))


def test_cmyk_and_lab_and_grey_look_like_the_photo() -> None:
    assert difference(decode(odd_files.cmyk_jpeg())) < 2
    assert difference(decode(odd_files.lab_tiff())) < 2
    grey = decode(odd_files.grey_jpeg())
    assert np.ptp(grey, axis=2).max() == 0
    luma = np.asarray(odd_files.photo().convert("L"), dtype=int)
    assert difference(grey[..., 0], luma) < 2


@pytest.mark.parametrize(
    ("alpha", "expected"), [(255, (255, 0, 0)), (0, (255, 255, 255)), (127, (255, 128, 128))]
)
def test_alpha_is_composited_over_white(alpha: int, expected: tuple[int, ...]) -> None:
    pixels = decode(odd_files.transparent_png(alpha))
    assert tuple(pixels[0, 0]) == (255, 0, 0)
    assert tuple(pixels[0, -1]) == expected


def test_grey_alpha_and_palette_transparency() -> None:
    grey = decode(odd_files.transparent_png(0, "LA"))
    assert tuple(grey[0, 0]) == (0, 0, 0) and tuple(grey[0, -1]) == (255, 255, 255)
    palette = decode(odd_files.palette_png())
    assert tuple(palette[0, 0]) == (255, 255, 255) and tuple(palette[0, -1]) == (0, 0, 255)


@pytest.mark.parametrize("make", [odd_files.animated_gif, odd_files.animated_webp])
def test_animations_give_their_first_frame(make: object) -> None:
    data = make()  # type: ignore[operator]
    assert probe(data).frames == 2
    assert tuple(decode(data)[10, 10]) == (255, 0, 0)


def test_a_multi_picture_jpeg_gives_its_first_picture() -> None:
    data = odd_files.encoded(
        odd_files.photo(), "MPO", save_all=True, append_images=[odd_files.photo(48, 32)]
    )
    assert (probe(data).format, probe(data).frames) == ("MPO", 2)
    assert decode(data).shape == (64, 96, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_foreign_profile_is_converted(format: str) -> None:
    data = odd_files.profile_image(odd_files.swapped_profile(), format)
    # With red and blue primaries exchanged, sRGB gets blue from the red channel.
    assert difference(decode(data)) > 10
    assert difference(decode(data), PHOTO[..., ::-1]) < 5


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_srgb_and_broken_profiles_change_nothing(format: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = decode(odd_files.profile_image(b"", format))
    for profile in (srgb, b"no profile at all" * 20):
        assert np.array_equal(decode(odd_files.profile_image(profile, format)), plain)


def test_a_lab_profile_beside_rgb_pixels_is_ignored() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert difference(decode(odd_files.profile_image(lab, "PNG"))) == 0


def test_grey_with_a_foreign_rgb_profile_stays_grey() -> None:
    data = odd_files.encoded(
        odd_files.photo().convert("L"), "JPEG", icc_profile=odd_files.swapped_profile()
    )
    assert np.ptp(decode(data).astype(int), axis=2).max() <= 2


# --- threads ---------------------------------------------------------------------------------


def test_threads_decode_the_same_pixels() -> None:
    files = [make_photo(400, 300, seed) for seed in range(4)]
    files += [odd_files.cmyk_jpeg(), odd_files.profile_image(odd_files.swapped_profile())]
    expected = [decode(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            got = list(pool.map(decode, files * 3))
            assert all(np.array_equal(a, b) for a, b in zip(got, expected * 3, strict=True))


def test_decoding_lets_other_threads_run() -> None:
    data = make_photo(3000, 2000, 1)
    ticks, done = 0, threading.Event()
    worker = threading.Thread(target=lambda: (decode(data), done.set()))
    worker.start()
    # Decoding is one C call: with the GIL held, this loop would not advance until it returns.
    while not done.wait(0.001):
        ticks += 1
    worker.join()
    assert ticks >= 5
