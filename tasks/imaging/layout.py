"""Layout: which views a source of a given size gives, and where on the source they lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from storage.digest import digest
from tasks.config.concepts import Concept, DetailCrops
from tasks.config.models import Config
from tasks.imaging.buckets import (
    Resolution,
    choose_bucket,
    cover,
    parse_resolutions,
    resolution_buckets,
)
from tasks.imaging.grid import axis_offsets, phase_offsets, phase_step, resized_size
from tasks.imaging.views import View

Kind = Literal["full", "detail", "context"]
ANY_RESOLUTION = -1
"""resolution_index of a view that is trained whatever resolution an epoch chooses."""
MOST_PHASES = 8
"""Grids that `regenerate_each_epoch` takes turns with when nothing else is said."""
PHASE_STEPS = (0.7548776662466927, 0.5698402909980532)
"""How far the grid moves from phase to phase along x and y, as parts of its step: the R2 sequence
(M. Roberts, 2018), which spreads any number of points evenly."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A view and what the dataset row says about its place."""

    view: View
    resolution_index: int
    crop_left: int
    crop_top: int
    """Offset of the view in the resized source, in pixels (SDXL's crop conditioning)."""
    variation: int | None = None
    """Number of a full view's jitter; None for tiles, which are the same in every variation."""
    phase: int | None = None
    """Number of the grid, when each epoch has its own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The settings of one concept that decide geometry."""

    resolutions: tuple[Resolution, ...]
    size_multiple: int
    bucketing: bool
    seed: int
    jitter: bool
    """Off: every bucket crop is centred."""
    variations: int
    """Versions of each sample, differently jittered and augmented."""
    grid_phases: int
    """Grids that take turns; 1: one grid for all epochs."""
    crops: DetailCrops


def concept_layout(config: Config, concept: Concept, size_multiple: int) -> Layout:
    """The layout settings of a concept, its resolution override applied.

    Validation is the same in every epoch: no jitter, one variation, one grid.
    """
    image = concept.image
    override = image.resolution_override if image.enable_resolution_override else None
    varied = concept.type != "validation"
    return Layout(
        resolutions=parse_resolutions(override or config.data.resolution),
        size_multiple=size_multiple,
        bucketing=config.data.aspect_ratio_bucketing,
        seed=config.data.seed,
        jitter=image.enable_crop_jitter and varied,
        variations=concept.image_variations if varied and config.data.latent_caching else 1,
        grid_phases=grid_phases(config, concept),
        crops=image.detail_crops,
    )


def concept_layouts(config: Config, size_multiple: int) -> dict[str, Layout]:
    """The layout settings of every enabled concept, by its name."""
    concepts = [concept for concept in config.concepts if concept.enabled]
    return {concept.name: concept_layout(config, concept, size_multiple) for concept in concepts}


def grid_phases(config: Config, concept: Concept) -> int:
    """How many grids the tiles of a concept take turns with; 1 unless each epoch has its own."""
    crops, train = concept.image.detail_crops, config.train
    if not (crops.enabled and crops.regenerate_each_epoch) or concept.type == "validation":
        return 1
    epochs = MOST_PHASES if train.max_steps is not None else train.epochs
    return crops.grid_phases or min(epochs, MOST_PHASES)


def place_views(layout: Layout, source_id: bytes, width: int, height: int) -> Iterator[Placed]:
    """Every view of a source of `width` x `height` pixels: the full image, then the tiles."""
    if layout.crops.include_full_images or not layout.crops.enabled:
        for number in range(len(layout.resolutions)):
            for variation in range(layout.variations):
                yield full_view(layout, number, source_id, (width, height), variation)
    if layout.crops.enabled and layout.grid_phases == 1:
        yield from tile_views(layout, width, height)
    elif layout.crops.enabled:
        for phase in range(layout.grid_phases):
            yield from phase_views(layout, source_id, (width, height), phase)


def full_view(
    layout: Layout, number: int, source_id: bytes, size: tuple[int, int], variation: int
) -> Placed:
    """The whole image, cover-resized into its aspect bucket of resolution `number`.

    Raising the number of variations moves none of the crops there were.
    """
    resolution = layout.resolutions[number]
    buckets = resolution_buckets(resolution, layout.size_multiple, bucketing=layout.bucketing)
    bucket = choose_bucket(*size, buckets)
    jitter = (0.5, 0.5)
    if layout.jitter:
        which = (variation,) if variation else ()
        drawn = digest("crop-jitter", layout.seed, source_id, str(resolution), *which)
        jitter = (_unit(drawn[:8]), _unit(drawn[8:]))
    crop = cover(*size, bucket, jitter)
    view = View("full", 0.0, crop.resized, crop.rect, bucket)
    return Placed(view, number, crop.crop_left, crop.crop_top, variation)


@dataclass(frozen=True, slots=True)
class Cut:
    """One pass of a source: the size that it is brought to, and the tiles that are cut there."""

    kind: Kind
    scale: float
    resolution_index: int
    resized: tuple[int, int]
    tile: int
    overlap: int


@lru_cache(maxsize=4096)
def tile_views(layout: Layout, width: int, height: int) -> tuple[Placed, ...]:
    """The detail and context tiles of a source; the same for all sources of one size."""
    placed: list[Placed] = []
    for cut in cuts(layout, width, height):
        lefts, tops = (axis_offsets(side, cut.tile, cut.overlap) for side in cut.resized)
        placed.extend(_tiles(cut, lefts, tops, None))
    return tuple(placed)


def phase_views(
    layout: Layout, source_id: bytes, size: tuple[int, int], phase: int
) -> Iterator[Placed]:
    """The tiles of one grid phase of a source.

    Phase 0 is the grid of `tile_views`, so switching phases on encodes only the others; a phase
    does not depend on how many there are.
    """
    for cut in cuts(layout, *size):
        pass_name = f"{cut.kind} {cut.scale:g} {cut.resized}"
        drawn = digest("grid-phase", layout.seed, source_id, pass_name)
        lefts, tops = (
            phase_offsets(side, cut.tile, cut.overlap, _moved(cut, side, start, part, phase))
            for side, start, part in zip(
                cut.resized, (_unit(drawn[:8]), _unit(drawn[8:])), PHASE_STEPS, strict=True
            )
        )
        yield from _tiles(cut, lefts, tops, phase)


def cuts(layout: Layout, width: int, height: int) -> Iterator[Cut]:
    """The passes that give a source of this size tiles."""
    for number, resolution, tile in tile_sizes(layout):
        for kind, scale, short_side in passes(layout.crops, resolution, tile):
            if too_small(layout.crops, min(width, height), short_side, tile) is None:
                resized = resized_size(width, height, short_side)
                yield Cut(kind, scale, number, resized, tile, tile_overlap(layout.crops, tile))


def _tiles(
    cut: Cut, lefts: tuple[int, ...], tops: tuple[int, ...], phase: int | None
) -> Iterator[Placed]:
    for top in tops:
        for left in lefts:
            rect = (left, top, cut.tile, cut.tile)
            view = View(cut.kind, cut.scale, cut.resized, rect, (cut.tile, cut.tile))
            yield Placed(view, cut.resolution_index, left, top, phase=phase)


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


def _moved(cut: Cut, side: int, start: float, part: float, phase: int) -> Fraction:
    """How many pixels of its step the grid of a phase is moved along one side."""
    share = (start + phase * part) % 1 if phase else 0.0
    return Fraction(share) * phase_step(side, cut.tile, cut.overlap)


def _unit(eight_bytes: bytes) -> float:
    return int.from_bytes(eight_bytes, "big") / 2**64
