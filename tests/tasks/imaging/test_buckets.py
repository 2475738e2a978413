import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.imaging.buckets import (
    Resolution,
    bucket_sizes,
    choose_bucket,
    cover,
    parse_resolutions,
    resolution_buckets,
)

# OneTrainer's table for 1024 pixels and multiples of 64.
NARROW = [
    (512, 2048),
    (576, 1920),
    (576, 1792),
    (640, 1600),
    (704, 1472),
    (768, 1344),
    (832, 1280),
    (896, 1152),
]
TABLE = {(1024, 1024), *NARROW, *((height, width) for width, height in NARROW)}

sides = st.integers(1, 12_000)
buckets = st.sampled_from([*sorted(TABLE), *bucket_sizes(512, 8)])
places = st.tuples(st.floats(0, 1), st.floats(0, 1))


def test_the_table_is_onetrainers() -> None:
    sizes = bucket_sizes(1024, 64)
    assert len(sizes) == 17
    assert set(sizes) == TABLE


def test_tiny_resolutions_have_no_empty_buckets() -> None:
    assert min(min(size) for size in bucket_sizes(64, 64)) == 64
    assert bucket_sizes(64, 64) == ((64, 128), (64, 64), (128, 64))


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((4000, 4000), (1024, 1024)),
        ((6000, 4000), (1280, 832)),
        ((4000, 6000), (832, 1280)),
        ((1920, 1080), (1344, 768)),
        ((100, 9000), (512, 2048)),
        ((9000, 100), (2048, 512)),
    ],
)
def test_the_nearest_bucket_is_taken(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    assert choose_bucket(*size, bucket_sizes(1024, 64)) == bucket


@settings(max_examples=1000, deadline=None)
@given(sides, sides, buckets, places)
def test_cover_fills_the_bucket(
    width: int, height: int, bucket: tuple[int, int], place: tuple[float, float]
) -> None:
    crop = cover(width, height, bucket, place)
    left, top, part_width, part_height = crop.rect
    assert 0 <= left <= left + part_width <= width
    assert 0 <= top <= top + part_height <= height
    assert part_width == width or part_height == height, "as large as possible"
    # The side that is not full is within half a pixel of the exact aspect ratio (or one pixel).
    exact_width = bucket[0] * part_height / bucket[1]
    exact_height = bucket[1] * part_width / bucket[0]
    assert min(abs(part_width - exact_width), abs(part_height - exact_height)) < 1
    assert crop.resized[0] >= bucket[0] and crop.resized[1] >= bucket[1]
    assert crop.resized[0] == bucket[0] or crop.resized[1] == bucket[1]
    assert 0 <= crop.crop_left <= crop.resized[0] - bucket[0]
    assert 0 <= crop.crop_top <= crop.resized[1] - bucket[1]


def test_cover_places_the_crop() -> None:
    centre = cover(6000, 4000, (1024, 1024))
    assert centre.rect == (1000, 0, 4000, 4000)
    assert (centre.resized, centre.crop_left, centre.crop_top) == ((1536, 1024), 256, 0)
    assert cover(6000, 4000, (1024, 1024), (0.0, 0.9)).rect == (0, 0, 4000, 4000)
    end = cover(6000, 4000, (1024, 1024), (1.0, 0.0))
    assert (end.rect, end.crop_left) == ((2000, 0, 4000, 4000), 512)
    small = cover(100, 100, (512, 512))
    assert (small.rect, small.resized) == ((0, 0, 100, 100), (512, 512))


def test_resolutions_are_read() -> None:
    square = Resolution(512, 512, exact=False)
    assert parse_resolutions("512") == (square,)
    assert parse_resolutions(" 512, 768") == (square, Resolution(768, 768, exact=False))
    exact = parse_resolutions("832x1216")
    assert exact == (Resolution(832, 1216, exact=True),)
    assert exact[0].short_side == 832
    assert resolution_buckets(exact[0], 64, bucketing=True) == ((832, 1216),)
    assert resolution_buckets(square, 64, bucketing=False) == ((512, 512),)
    assert resolution_buckets(square, 64, bucketing=True) == bucket_sizes(512, 64)


@pytest.mark.parametrize(
    "text", ["", "big", "512,", "-512", "0", "512x", "831x1216", "0x64", "512,512", "1e3", "5.5"]
)
def test_other_resolutions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="resolution"):
        parse_resolutions(text)
