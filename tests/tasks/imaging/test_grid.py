from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.imaging.grid import (
    axis_offsets,
    phase_offsets,
    phase_step,
    resized_size,
    tile_grid,
)

axes = st.integers(1, 300).flatmap(
    lambda tile: st.tuples(st.integers(1, 4000), st.just(tile), st.integers(0, tile - 1))
)
real_axes = st.sampled_from([512, 768, 1024]).flatmap(
    lambda tile: st.tuples(st.integers(tile, 30_000), st.just(tile), st.integers(0, tile // 2))
)


def check_complete(offsets: tuple[int, ...], length: int, tile: int, overlap: int) -> None:
    assert all(type(offset) is int for offset in offsets)
    assert list(offsets) == sorted(set(offsets)), "sorted, no duplicates"
    assert offsets[0] == 0
    assert offsets[-1] == length - tile, "the last tile ends at the end, at full size"
    for left, right in zip(offsets, offsets[1:], strict=False):
        assert left + tile - right >= overlap, "neighbours share at least the overlap"


@settings(max_examples=2000, deadline=None)
@given(st.one_of(axes, real_axes))
def test_every_grid_is_complete(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    offsets = axis_offsets(length, tile, overlap)
    if length < tile:
        assert offsets == ()
        return
    check_complete(offsets, length, tile, overlap)
    spaces = {b - a for a, b in zip(offsets, offsets[1:], strict=False)}
    assert max(spaces, default=0) - min(spaces, default=0) <= 1, "evenly spaced"
    # No smaller number of tiles could do it.
    fewer = len(offsets) - 1
    assert fewer == 0 or fewer * (tile - overlap) + overlap < length


@settings(max_examples=2000, deadline=None)
@given(st.one_of(axes, real_axes), st.floats(0, 1, exclude_max=True))
def test_every_phase_is_complete(axis: tuple[int, int, int], share: float) -> None:
    length, tile, overlap = axis
    step = phase_step(length, tile, overlap)
    offsets = phase_offsets(length, tile, overlap, share * float(step))
    if length < tile:
        assert offsets == ()
        return
    check_complete(offsets, length, tile, overlap)
    base = axis_offsets(length, tile, overlap)
    assert len(base) <= len(offsets) <= len(base) + 1


def test_every_small_axis() -> None:
    checked = 0
    for length in range(1, 60):
        for tile in range(1, length + 1):
            for overlap in range(tile):
                check_complete(axis_offsets(length, tile, overlap), length, tile, overlap)
                checked += 1
    assert checked > 30_000


def test_known_grids() -> None:
    assert axis_offsets(1024, 1024, 128) == (0,)
    assert axis_offsets(1025, 1024, 128) == (0, 1)
    assert axis_offsets(1536, 512, 0) == (0, 512, 1024)
    assert axis_offsets(1536, 512, 64) == (0, 341, 683, 1024)
    assert tile_grid(1025, 512, 512, 0) == [(0, 0), (257, 0), (513, 0)]
    assert tile_grid(5, 4, 3, 0) == [(0, 0), (2, 0), (0, 1), (2, 1)]
    assert tile_grid(511, 4000, 512, 64) == []


def test_known_phases() -> None:
    assert phase_step(1536, 512, 64) == Fraction(1024, 3)
    assert phase_offsets(1536, 512, 64, 0) == axis_offsets(1536, 512, 64)
    assert phase_offsets(1536, 512, 64, 100) == (0, 100, 441, 783, 1024)
    assert phase_step(512, 512, 64) == 0
    assert phase_offsets(512, 512, 64, 0) == (0,)
    with pytest.raises(ValueError, match="outside"):
        phase_offsets(1536, 512, 64, 400)


@pytest.mark.parametrize(("tile", "overlap"), [(512, 512), (512, 600), (512, -1), (0, 0)])
def test_impossible_settings_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap = |tile_resolution = "):
        axis_offsets(100, tile, overlap)


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 4096))
def test_the_short_side_is_exact(width: int, height: int, short_side: int) -> None:
    size = resized_size(width, height, short_side)
    assert min(size) == short_side
    long_side = max(width, height) * short_side / min(width, height)
    assert abs(max(size) - long_side) <= 0.5
    assert (size[0] <= size[1]) or width > height
