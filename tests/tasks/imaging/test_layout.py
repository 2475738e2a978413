"""Which views a source gives: full images in their buckets, tiles at every scale, grid phases."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.config.concepts import DetailCrops
from tasks.imaging.buckets import parse_resolutions
from tasks.imaging.layout import (
    ANY_RESOLUTION,
    Layout,
    Placed,
    cuts_without_tiles,
    phase_views,
    place_views,
    tile_views,
)

SOURCE = b"0123456789abcdef"


def layout(
    resolution: str = "512",
    *,
    seed: int = 0,
    jitter: bool = False,
    variations: int = 1,
    grid_phases: int = 1,
    **crops: object,
) -> Layout:
    return Layout(
        resolutions=parse_resolutions(resolution),
        size_multiple=64,
        bucketing=True,
        seed=seed,
        jitter=jitter,
        variations=variations,
        grid_phases=grid_phases,
        crops=DetailCrops.model_validate(crops),
    )


def kinds(placed: list) -> list[str]:
    return [one.view.kind for one in placed]


def test_without_detail_crops_a_source_is_one_view_per_resolution() -> None:
    views = list(place_views(layout("512,768"), SOURCE, 4000, 3000))
    assert kinds(views) == ["full", "full"]
    assert [one.resolution_index for one in views] == [0, 1]
    assert all(edge % 64 == 0 for one in views for edge in one.view.target)


def test_tiles_of_a_scale_cover_the_resized_source() -> None:
    views = list(place_views(layout(enabled=True, scales=[2]), SOURCE, 4000, 3000))
    tiles = [one.view for one in views if one.view.kind == "detail"]
    assert {tile.resized for tile in tiles} == {(1365, 1024)}
    assert {tile.target for tile in tiles} == {(512, 512)}
    assert {tile.rect[0] for tile in tiles} == {0, 427, 1365 - 512}
    assert {tile.rect[1] for tile in tiles} == {0, 256, 1024 - 512}


def test_full_images_can_be_left_out_only_with_detail_crops() -> None:
    on = layout(enabled=True, include_full_images=False)
    off = layout(enabled=False, include_full_images=False)
    assert "full" not in kinds(list(place_views(on, SOURCE, 4000, 3000)))
    assert kinds(list(place_views(off, SOURCE, 4000, 3000))) == ["full"]


def test_context_tiles_have_the_tile_as_short_side() -> None:
    views = place_views(layout(enabled=True, include_context_tiles=True), SOURCE, 4000, 3000)
    context = [one.view for one in views if one.view.kind == "context"]
    assert {tile.resized for tile in context} == {(683, 512)}


def test_a_set_tile_size_is_cut_once_for_all_resolutions() -> None:
    views = list(
        place_views(layout("512,768", enabled=True, tile_resolution=256), SOURCE, 800, 600)
    )
    tiles = [one for one in views if one.view.kind == "detail"]
    assert {one.resolution_index for one in tiles} == {ANY_RESOLUTION}
    assert {one.view.target for one in tiles} == {(256, 256)}


def test_a_scale_below_the_tile_gives_nothing_and_says_so() -> None:
    small = layout(enabled=True, scales=[0.5])
    assert kinds(list(place_views(small, SOURCE, 4000, 3000))) == ["full"]
    ((kind, scale, reason),) = cuts_without_tiles(small, 4000, 3000)
    assert (kind, scale) == ("detail", 0.5)
    assert "smaller than the tile" in reason


def test_max_upscale_skips_a_scale_for_small_sources_only() -> None:
    limited = layout(enabled=True, scales=[4], max_upscale=1.0)
    assert "detail" in kinds(list(place_views(limited, SOURCE, 4000, 3000)))
    assert "detail" not in kinds(list(place_views(limited, SOURCE, 800, 600)))
    ((_, _, reason),) = cuts_without_tiles(limited, 800, 600)
    assert "3.41x" in reason


def test_no_overlap_means_no_overlap() -> None:
    views = place_views(layout(enabled=True, overlap=0, scales=[2]), SOURCE, 1024, 1024)
    tiles = [one.view.rect[:2] for one in views if one.view.kind == "detail"]
    assert tiles == [(0, 0), (512, 0), (0, 512), (512, 512)]


def test_jitter_is_a_function_of_seed_source_and_variation() -> None:
    def lefts(seed: int, source: bytes = SOURCE, variations: int = 1) -> list[int]:
        jittered = layout(seed=seed, jitter=True, variations=variations)
        return [placed.view.rect[0] for placed in place_views(jittered, source, 4500, 1000)]

    assert lefts(1) == lefts(1)
    assert len({lefts(seed)[0] for seed in range(8)}) > 4
    assert lefts(1) != lefts(1, b"another source!!")
    assert len(set(lefts(1, variations=8))) > 4
    assert lefts(1, variations=8)[:3] == lefts(1, variations=3)
    (centred,) = place_views(layout(), SOURCE, 4500, 1000)
    assert centred.view.rect[0] == 250


# --- the grid --------------------------------------------------------------------------------

sides = st.integers(1, 20_000)
geometries = st.sampled_from([64, 256, 512, 1024]).flatmap(
    lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1))
)


def check_covered(placed: list[Placed], tile: int, overlap: int) -> None:
    """All tiles of one pass: full size, no duplicates, every pixel covered, overlaps kept."""
    views = [one.view for one in placed]
    ((width, height),) = {view.resized for view in views}
    assert {view.rect[2:] for view in views} == {view.target for view in views} == {(tile, tile)}
    corners = [view.rect[:2] for view in views]
    assert len(set(corners)) == len(corners)
    lefts, tops = (sorted(set(axis)) for axis in zip(*corners, strict=True))
    assert len(corners) == len(lefts) * len(tops), "a full grid of rows and columns"
    for offsets, side in ((lefts, width), (tops, height)):
        assert offsets[0] == 0
        assert offsets[-1] + tile == side
        for left, right in zip(offsets, offsets[1:], strict=False):
            assert left + tile - right >= overlap


def detail(resolution: int, tile: int, overlap: int, scale: float, phases: int = 1) -> Layout:
    return layout(
        str(resolution),
        enabled=True,
        include_full_images=False,
        tile_resolution=tile,
        overlap=overlap,
        scales=[scale],
        grid_phases=phases,
    )


# Few tiles suffice: the axes are searched in test_grid.py.
@settings(max_examples=2000, deadline=None)
@given(sides, sides, geometries, st.sampled_from([0.5, 1, 1.5, 2, 3]))
def test_tiles_cover_every_pixel(
    width: int, height: int, geometry: tuple[int, int], scale: float
) -> None:
    tile, overlap = geometry
    width, height = min(width, 6 * height), min(height, 6 * width)
    overlap = min(overlap, tile * 3 // 4)
    settings_ = detail(tile, tile, overlap, scale)
    placed = list(tile_views(settings_, width, height))
    if round(tile * scale) < tile:
        assert not placed
        assert list(cuts_without_tiles(settings_, width, height))
        return
    check_covered(placed, tile, overlap)
    assert min(placed[0].view.resized) == round(tile * scale)


@settings(max_examples=2000, deadline=None)
@given(sides, sides, geometries, st.sampled_from([1, 2, 3]), st.integers(0, 30), st.integers())
def test_tiles_of_every_phase_cover_every_pixel(
    width: int, height: int, geometry: tuple[int, int], scale: float, phase: int, seed: int
) -> None:
    tile, overlap = geometry
    width, height = min(width, 6 * height), min(height, 6 * width)
    overlap = min(overlap, tile * 3 // 4)
    moved = replace(detail(tile, tile, overlap, scale), seed=seed)
    check_covered(list(phase_views(moved, SOURCE, (width, height), phase)), tile, overlap)


def test_the_documented_example_leaves_no_pixel_uncovered() -> None:
    for size in ((6000, 4000), (4000, 6000), (2048, 2048), (3001, 1999), (1024, 9000)):
        example = detail(1024, 1024, 128, 2)
        check_covered(list(tile_views(example, *size)), 1024, 128)
        for phase in range(8):
            check_covered(list(phase_views(example, SOURCE, size, phase)), 1024, 128)
    tiles = [one.view.rect[:2] for one in tile_views(detail(1024, 1024, 128, 2), 6000, 4000)]
    assert sorted({left for left, _ in tiles}) == [0, 683, 1365, 2048]
    assert sorted({top for _, top in tiles}) == [0, 512, 1024]


# --- grid phases -----------------------------------------------------------------------------


def corners(one: Layout, phase: int, source: bytes = SOURCE) -> list[tuple[int, int]]:
    return [placed.view.rect[:2] for placed in phase_views(one, source, (6000, 4000), phase)]


def test_phase_0_is_the_plain_grid() -> None:
    phased = detail(512, 512, 64, 2, phases=4)
    plain = [replace(one, phase=0) for one in tile_views(phased, 6000, 4000)]
    assert list(phase_views(phased, SOURCE, (6000, 4000), 0)) == plain


def test_a_phase_does_not_depend_on_how_many_there_are() -> None:
    few, many = detail(512, 512, 64, 2, phases=3), detail(512, 512, 64, 2, phases=9)
    wanted = [one for one in place_views(many, SOURCE, 6000, 4000) if one.phase in (0, 1, 2)]
    assert list(place_views(few, SOURCE, 6000, 4000)) == wanted


def test_phases_differ_from_each_other_and_from_source_to_source() -> None:
    phased = detail(512, 512, 64, 2, phases=8)
    grids = [tuple(corners(phased, phase)) for phase in range(8)]
    assert len(set(grids)) == 8
    assert corners(phased, 1) != corners(phased, 1, b"another source!!")
    assert corners(phased, 1) != corners(replace(phased, seed=1), 1)
    assert corners(phased, 1) == corners(phased, 1)


def test_phases_spread_over_the_whole_step() -> None:
    """Whatever the seed, eight phases leave no wide gap unvisited along either axis."""
    for seed in range(20):
        phased = replace(detail(512, 512, 0, 3, phases=8), seed=seed)
        for axis, step in ((0, 512 * 3 * 1.5 - 512), (1, 512 * 3 - 512)):
            firsts = {sorted({corner[axis] for corner in corners(phased, p)})[1] for p in range(8)}
            number = round(step / 512)
            width = step / max(1, number)
            places = sorted(first % width for first in firsts)
            gaps = [b - a for a, b in zip(places, [*places[1:], places[0] + width], strict=True)]
            assert max(gaps) < width / 2, (seed, axis, places)


@pytest.mark.parametrize("phases", [1, 3])
def test_a_tile_says_its_phase_only_where_there_are_several(phases: int) -> None:
    placed = list(place_views(detail(512, 512, 64, 2, phases), SOURCE, 6000, 4000))
    assert {one.phase for one in placed} == ({None} if phases == 1 else set(range(phases)))
