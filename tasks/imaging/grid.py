"""Where tiles lie: full-size tiles, no gaps, no duplicates. Integers only, so exact."""

import math
from fractions import Fraction


def axis_offsets(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Offsets of the tiles along an axis of `length` pixels.

    They are evenly spaced from 0 to `length - tile`, and neighbours share at least `overlap`
    pixels. An axis shorter than a tile has none.

    Raises:
        ValueError: `tile` is below 1, or `overlap` is not within 0 .. tile - 1.
    """
    count = _count(length, tile, overlap)
    if count < 2:
        return (0,) * count
    slack = length - tile
    return tuple(_half_up(i * slack, count - 1) for i in range(count))


def phase_step(length: int, tile: int, overlap: int) -> Fraction:
    """Distance between neighbours in pixels, which a grid phase stays below; 0 for one tile."""
    count = _count(length, tile, overlap)
    return Fraction(length - tile, count - 1) if count > 1 else Fraction(0)


def phase_offsets(length: int, tile: int, overlap: int, phase: float | Fraction) -> tuple[int, ...]:
    """Offsets of the grid moved by `phase` pixels, with one more tile so that nothing is lost.

    Raises:
        ValueError: As in `axis_offsets`, or `phase` is not within 0 .. phase_step.
    """
    count = _count(length, tile, overlap)
    step = phase_step(length, tile, overlap)
    if not 0 <= phase <= step:
        raise ValueError(f"grid phase {phase} is outside 0 .. {float(step)} pixels")
    if count < 2:
        return (0,) * count
    # Exact fractions: floats would now and then round neighbours one pixel too far apart.
    start = Fraction(phase) - step + Fraction(1, 2)
    offsets = (math.floor(start + i * step) for i in range(count + 1))
    return tuple(sorted({min(max(offset, 0), length - tile) for offset in offsets}))


def tile_grid(width: int, height: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """(left, top) of every tile of an image, row by row; empty if a side is below `tile`."""
    lefts = axis_offsets(width, tile, overlap)
    return [(left, top) for top in axis_offsets(height, tile, overlap) for left in lefts]


def resized_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) with the short side exactly `short_side` and the aspect ratio kept."""
    if width <= height:
        return short_side, _half_up(height * short_side, width)
    return _half_up(width * short_side, height), short_side


def _count(length: int, tile: int, overlap: int) -> int:
    if tile < 1:
        raise ValueError(f"tile_resolution = {tile}: a tile needs at least 1 pixel")
    if not 0 <= overlap < tile:
        raise ValueError(
            f"overlap = {overlap} with tile_resolution = {tile}: "
            f"the overlap must be within 0 .. {tile - 1}, or tiles would never advance"
        )
    if length < tile:
        return 0
    return max(1, -(-(length - overlap) // (tile - overlap)))


def _half_up(numerator: int, denominator: int) -> int:
    """Rounds numerator / denominator, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)
