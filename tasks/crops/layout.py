"""Layout: which views a source of a given size gives, and where on the source they lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from storage.digest import digest
from tasks.config.models import Concept, Config, DetailCrops
from tasks.imaging.buckets import (
    Resolution,
    choose_bucket,
    cover,
    parse_resolutions,
    resolution_buckets,
)
from tasks.imaging.grid import resized_size, tile_grid
from tasks.imaging.views import View

Kind = Literal["full", "detail", "context"]
ANY_RESOLUTION = -1
"""resolution_index of a view that is trained whatever resolution an epoch chooses."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A view and what the dataset row says about its place."""

    view: View
    resolution_index: int
    crop_left: int
    crop_top: int
    """Offset of the view in the resized source, in pixels (SDXL's crop conditioning)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The settings of one concept that decide geometry."""

    resolutions: tuple[Resolution, ...]
    size_multiple: int
    bucketing: bool
    jitter_seed: int | None
    """None: every bucket crop is centred."""
    crops: DetailCrops


def concept_layout(config: Config, concept: Concept, size_multiple: int) -> Layout:
    """The layout settings of a concept, its resolution override applied."""
    image = concept.image
    override = image.resolution_override if image.enable_resolution_override else None
    return Layout(
        resolutions=parse_resolutions(override or config.data.resolution),
        size_multiple=size_multiple,
        bucketing=config.data.aspect_ratio_bucketing,
        jitter_seed=config.data.seed if image.enable_crop_jitter else None,
        crops=image.detail_crops,
    )


def place_views(layout: Layout, source_id: bytes, width: int, height: int) -> Iterator[Placed]:
    """Every view of a source of `width` x `height` pixels: the full image, then the tiles."""
    if layout.crops.include_full_images or not layout.crops.enabled:
        for number, resolution in enumerate(layout.resolutions):
            yield full_view(layout, number, resolution, source_id, (width, height))
    if layout.crops.enabled:
        yield from tile_views(layout, width, height)


def full_view(
    layout: Layout, number: int, resolution: Resolution, source_id: bytes, size: tuple[int, int]
) -> Placed:
    """The whole image, cover-resized into its aspect bucket."""
    buckets = resolution_buckets(resolution, layout.size_multiple, bucketing=layout.bucketing)
    bucket = choose_bucket(*size, buckets)
    jitter = (0.5, 0.5)
    if layout.jitter_seed is not None:
        drawn = digest("crop-jitter", layout.jitter_seed, source_id, str(resolution))
        jitter = (_unit(drawn[:8]), _unit(drawn[8:]))
    crop = cover(*size, bucket, jitter)
    view = View("full", 0.0, crop.resized, crop.rect, bucket)
    return Placed(view, number, crop.crop_left, crop.crop_top)


@lru_cache(maxsize=4096)
def tile_views(layout: Layout, width: int, height: int) -> tuple[Placed, ...]:
    """The detail and context tiles of a source; the same for all sources of one size."""
    placed: list[Placed] = []
    for number, resolution, tile in tile_sizes(layout):
        for kind, scale, short_side in passes(layout.crops, resolution, tile):
            if too_small(layout.crops, min(width, height), short_side, tile) is None:
                resized = resized_size(width, height, short_side)
                overlap = tile_overlap(layout.crops, tile)
                for left, top in tile_grid(*resized, tile, overlap):
                    rect = (left, top, tile, tile)
                    view = View(kind, scale, resized, rect, (tile, tile))
                    placed.append(Placed(view, number, left, top))
    return tuple(placed)


def cuts_without_tiles(
    layout: Layout, width: int, height: int
) -> Iterator[tuple[Kind, float, str]]:
    """(kind, scale, reason) of every cut that gives a source of this size no tiles."""
    if not layout.crops.enabled:
        return
    for _, resolution, tile in tile_sizes(layout):
        for kind, scale, short_side in passes(layout.crops, resolution, tile):
            reason = too_small(layout.crops, min(width, height), short_side, tile)
            if reason is not None:
                yield kind, scale, reason


def tile_sizes(layout: Layout) -> list[tuple[int, Resolution, int]]:
    """(resolution_index, resolution, tile edge): one per resolution unless the edge is set."""
    edge = layout.crops.tile_resolution
    if edge is not None:
        return [(ANY_RESOLUTION, layout.resolutions[0], edge)]
    return [(n, r, r.short_side) for n, r in enumerate(layout.resolutions)]


def passes(crops: DetailCrops, resolution: Resolution, tile: int) -> list[tuple[Kind, float, int]]:
    """(kind, scale, short side in pixels) of every cut through a source."""
    cuts: list[tuple[Kind, float, int]] = [
        ("detail", scale, round(resolution.short_side * scale)) for scale in crops.scales
    ]
    return [*cuts, ("context", 1.0, tile)] if crops.include_context_tiles else cuts


def too_small(crops: DetailCrops, source_short_px: int, short_side: int, tile: int) -> str | None:
    """Why a cut gives no tiles, or None."""
    if short_side < tile:
        return f"short side {short_side} px is smaller than the tile ({tile} px)"
    limit = crops.max_upscale
    if limit is not None and short_side > source_short_px * limit:
        return f"would enlarge the source {short_side / source_short_px:.2f}x (limit {limit:g}x)"
    return None


def tile_overlap(crops: DetailCrops, tile: int) -> int:
    """The least overlap of neighbouring tiles, in pixels."""
    return tile // 8 if crops.overlap is None else crops.overlap


def _unit(eight_bytes: bytes) -> float:
    return int.from_bytes(eight_bytes, "big") / 2**64
