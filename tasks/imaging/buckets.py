"""Aspect buckets with the ratios and the rounding of OneTrainer, and the crop that fills one."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

Size = tuple[int, int]
Rect = tuple[int, int, int, int]

_RATIOS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0)
_EXACT = re.compile(r"(\d+)\s*[xX]\s*(\d+)")
# A latent cell is 8 x 8 pixels; other sizes would be cut by the VAE.
_CELL = 8


@dataclass(frozen=True, slots=True)
class Resolution:
    """A training resolution: an area to keep (`exact` false, width = height) or one exact size."""

    width: int
    height: int
    exact: bool

    @property
    def short_side(self) -> int:
        """What tile scales multiply."""
        return min(self.width, self.height)


@dataclass(frozen=True, slots=True)
class FullCrop:
    """How a whole image fills a bucket.

    `rect` is (left, top, width, height) in source pixels; `resized` is the size the whole source
    would have at that scale, and `crop_left`, `crop_top` the place of the bucket in it.
    """

    rect: Rect
    resized: Size
    crop_left: int
    crop_top: int


def parse_resolutions(text: str) -> tuple[Resolution, ...]:
    """Reads `512`, `512,768` (several at once) or `832x1216` (exactly this).

    Raises:
        ValueError: Anything else, a duplicate, or an exact side that is not a multiple of 8.
    """
    found = tuple(_parse_one(part.strip(), text) for part in text.split(","))
    if len(set(found)) < len(found):
        raise ValueError(f"resolution {text!r} names a size twice: leave one out")
    return found


@lru_cache(maxsize=64)
def bucket_sizes(resolution: int, multiple: int) -> tuple[Size, ...]:
    """All (width, height) of about `resolution` squared pixels, narrow to wide, no duplicates."""
    ratios = {ratio for value in _RATIOS for ratio in (value, 1 / value)}
    sizes = {
        (
            _rounded(resolution * math.sqrt(ratio), multiple),
            _rounded(resolution / math.sqrt(ratio), multiple),
        )
        for ratio in ratios
    }
    return tuple(sorted(sizes, key=lambda size: (size[0] / size[1], size)))


def resolution_buckets(
    resolution: Resolution, multiple: int, *, bucketing: bool
) -> tuple[Size, ...]:
    """The buckets of one resolution: its exact size, its ratios, or one square (bucketing off)."""
    if resolution.exact:
        return ((resolution.width, resolution.height),)
    if bucketing:
        return bucket_sizes(resolution.width, multiple)
    side = _rounded(resolution.width, multiple)
    return ((side, side),)


def choose_bucket(width: int, height: int, buckets: Sequence[Size]) -> Size:
    """The bucket whose height / width is nearest (linearly, as OneTrainer does) to the image's."""
    return min(buckets, key=lambda size: abs(height / width - size[1] / size[0]))


def cover(
    width: int, height: int, bucket: Size, jitter: tuple[float, float] = (0.5, 0.5)
) -> FullCrop:
    """The largest part of a (width, height) image with the bucket's aspect ratio.

    Args:
        width: Source width in pixels.
        height: Source height in pixels.
        bucket: (width, height) to fill.
        jitter: Place of the crop along each axis, 0 (left, top) to 1 (right, bottom).
    """
    target_width, target_height = bucket
    part_width, part_height = width, height
    resized_width, resized_height = bucket
    if target_width * height >= target_height * width:
        part_height = _clamp(_half_up(target_height * width, target_width), 1, height)
        resized_height = max(target_height, _half_up(height * target_width, width))
    else:
        part_width = _clamp(_half_up(target_width * height, target_height), 1, width)
        resized_width = max(target_width, _half_up(width * target_height, height))
    left, top = _place(width - part_width, jitter[0]), _place(height - part_height, jitter[1])
    return FullCrop(
        rect=(left, top, part_width, part_height),
        resized=(resized_width, resized_height),
        crop_left=min(_half_up(left * resized_width, width), resized_width - target_width),
        crop_top=min(_half_up(top * resized_height, height), resized_height - target_height),
    )


def _parse_one(part: str, text: str) -> Resolution:
    exact = _EXACT.fullmatch(part)
    if exact:
        size = Resolution(int(exact[1]), int(exact[2]), exact=True)
        if size.width % _CELL or size.height % _CELL or not size.width * size.height:
            raise ValueError(
                f"resolution {part!r}: both sides of an exact size must be positive multiples "
                f"of {_CELL}"
            )
        return size
    if not (part.isascii() and part.isdigit()) or int(part) < _CELL:
        raise ValueError(
            f"resolution {text!r}: {part!r} is not a size; write 512, 512,768 or 832x1216"
        )
    return Resolution(int(part), int(part), exact=False)


def _rounded(value: float, multiple: int) -> int:
    # Python's round, halves to even, as in OneTrainer; never down to nothing.
    return max(1, round(value / multiple)) * multiple


def _place(slack: int, position: float) -> int:
    """An offset within 0 .. slack; each is equally likely for a uniform position in [0, 1)."""
    return _clamp(int(position * (slack + 1)), 0, slack)


def _clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def _half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
