"""Which views a source gives: full images in their buckets, tiles at every scale."""

from tasks.config.concepts import DetailCrops
from tasks.imaging.layout import ANY_RESOLUTION, Layout, cuts_without_tiles, place_views
from tasks.imaging.buckets import parse_resolutions

SOURCE = b"0123456789abcdef"


def layout(resolution: str = "512", *, jitter: int | None = None, **crops: object) -> Layout:
    return Layout(
        resolutions=parse_resolutions(resolution),
        size_multiple=64,
        bucketing=True,
        jitter_seed=jitter,
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


def test_jitter_is_a_function_of_seed_and_source() -> None:
    def left(seed: int | None, source: bytes = SOURCE) -> int:
        (view,) = place_views(layout(jitter=seed), source, 4500, 1000)
        return view.view.rect[0]

    assert left(1) == left(1)
    assert len({left(seed) for seed in range(8)}) > 4
    assert left(1) != left(1, b"another source!!")
    assert left(None) == 250
