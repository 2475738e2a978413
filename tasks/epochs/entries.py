"""Which rows an epoch trains and how often: turns, the limit of tiles, repeats, samples per epoch.

Every draw has a generator of its own, named by (dataset, seed, epoch, purpose), so that switching
one feature on moves no draw of another.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Remainder = Literal["repeat", "drop"]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ORDER_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderColumns:
    """What the order depends on, one entry per dataset row (N rows, sorted by row_id)."""

    bucket: Ints
    """Small non-negative codes; rows of one code share a shape."""
    concept: Ints
    """Small non-negative codes; `repeats` and `samples` are counted per concept."""
    repeats: NDArray[np.float64]
    samples: Ints
    """Entries of the row's concept per epoch, instead of `repeats`; -1 for by repeats."""
    phase: Ints
    """Grid phase, -1 for every epoch."""
    num_phases: Ints
    """The row is trained in epochs with epoch % num_phases == phase; 1 for every epoch."""
    group_hash: NDArray[np.uint64]
    """Decides which resolution and variation a source starts with; equal within a source."""
    resolution: Ints
    """Number of this row's resolution among those of its group, from 0."""
    num_resolutions: Ints
    """How many resolutions the row's group has; an epoch trains one of them."""
    variation: Ints
    """Number of this row's variation among those of its view, from 0."""
    num_variations: Ints
    """How many variations the row's view has; an epoch trains one of them."""
    tile_group: Ints
    """Non-negative codes; rows of one code are of one source in one concept."""
    tile_limit: Ints
    """At most so many rows of a tile group are trained in an epoch; 0 for rows without a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """What else the order depends on."""

    content_digest: str
    seed: int
    batch_size: int
    step_size: int
    """Micro-batches per optimizer step: ranks x accumulation."""
    remainder: Remainder = "repeat"


def select_entries(columns: OrderColumns, settings: OrderSettings, epoch: int) -> Ints:
    """Row numbers that the epoch trains, each as often as it is trained, in row order."""
    rows = np.arange(len(columns.bucket), dtype=np.int64)
    copies = entry_copies(columns, settings, epoch, active_rows(columns, epoch))
    return rows if (copies == 1).all() else np.repeat(rows, copies)


def is_changing(columns: OrderColumns) -> bool:
    """Whether epochs may have different numbers of entries in their buckets."""
    turns = (columns.num_phases, columns.num_resolutions, columns.num_variations)
    return (
        any(bool((turn > 1).any()) for turn in turns)
        or bool((columns.repeats % 1 != 0).any())
        or bool((columns.samples >= 0).any())
        or bool((columns.tile_limit > 0).any())
    )


def active_rows(columns: OrderColumns, epoch: int) -> Bools:
    """Whether it is each row's turn: its grid phase, its resolution and its variation.

    Every row has its turn exactly once in any num_phases x num_resolutions x num_variations epochs.
    """
    phases, resolutions = columns.num_phases, columns.num_resolutions
    active: Bools = (columns.phase < 0) | (columns.phase == epoch % phases)
    if (resolutions > 1).any():
        turn = epoch + _shifts(phases, resolutions, epoch)
        active &= (_start(columns, resolutions) + turn) % resolutions == columns.resolution
    if (columns.num_variations > 1).any():
        turn = _start(columns, columns.num_variations) + epoch // (phases * resolutions)
        active &= turn % columns.num_variations == columns.variation
    return active


def entry_copies(columns: OrderColumns, settings: OrderSettings, epoch: int, active: Bools) -> Ints:
    """How often the epoch trains each row, given the rows whose turn it is."""
    active = _limit_tiles(columns, settings, epoch, active)
    by_repeats = active & (columns.samples < 0)
    copies: Ints = np.where(by_repeats, np.floor(columns.repeats), 0).astype(np.int64)
    fraction = np.where(by_repeats, columns.repeats % 1, 0.0)
    if fraction.any():
        copies += _fractional_copies(columns.concept, fraction, settings, epoch)
    by_samples = np.flatnonzero(active & (columns.samples >= 0))
    if by_samples.size:
        copies[by_samples] = _sample_copies(columns, settings, epoch, by_samples)
    return copies


def _start(columns: OrderColumns, count: Ints) -> Ints:
    start: Ints = (columns.group_hash % count.astype(np.uint64)).astype(np.int64)
    return start


def _shifts(phases: Ints, resolutions: Ints, epoch: int) -> Ints | int:
    """Lets resolutions meet every grid phase: where both repeat together, they are moved by one.

    Without it, two phases and two resolutions would show only two of their four pairs.
    """
    if not (phases > 1).any():
        return 0
    together = np.gcd(phases, resolutions)
    shifts: Ints = epoch // (phases // together * resolutions) % together
    return shifts


def _limit_tiles(
    columns: OrderColumns, settings: OrderSettings, epoch: int, active: Bools
) -> Bools:
    """`active` without the tiles that a source has too many of, a random choice."""
    tiles = np.flatnonzero(active & (columns.tile_limit > 0))
    if not tiles.size:
        return active
    groups, limits = columns.tile_group[tiles], columns.tile_limit[tiles]
    sizes = np.zeros(groups.max() + 1, dtype=np.int64)
    sizes[groups] = limits
    priority = generator(settings, epoch, "tiles").random(len(active))[tiles]
    limited = active.copy()
    limited[tiles] = _draw(groups, sizes, priority)
    return limited


def _sample_copies(columns: OrderColumns, settings: OrderSettings, epoch: int, rows: Ints) -> Ints:
    """Copies of `rows`, together as many per concept as its `samples`, spread evenly."""
    concepts = columns.concept[rows]
    wanted = np.zeros(concepts.max() + 1, dtype=np.int64)
    wanted[concepts] = columns.samples[rows]
    whole, rest = np.divmod(wanted, np.maximum(np.bincount(concepts), 1))
    priority = generator(settings, epoch, "samples").random(len(columns.concept))[rows]
    copies: Ints = whole[concepts] + _draw(concepts, rest, priority)
    return copies


def _fractional_copies(
    concept: Ints, fraction: NDArray[np.float64], settings: OrderSettings, epoch: int
) -> Ints:
    """One more copy for a random subset of each concept, as large as its fraction says.

    The size n x fraction is rounded up or down at random so that it is right on average: one row at
    0.5 trains in every second epoch, not never.
    """
    random = generator(settings, epoch, "repeats")
    priority = random.random(len(concept))
    rows = np.flatnonzero(fraction)
    totals = np.bincount(concept[rows], weights=fraction[rows]).round(6)
    sizes = np.zeros(len(totals), dtype=np.int64)
    present = np.unique(concept[rows])
    sizes[present] = np.floor(totals[present] + random.random(len(present)))
    extra = np.zeros(len(concept), dtype=np.int64)
    extra[rows] = _draw(concept[rows], sizes, priority[rows])
    return extra


def _draw(groups: Ints, sizes: Ints, priority: NDArray[np.float64]) -> Bools:
    """Whether each member is among the `sizes[group]` of its group with the least priority.

    A priority is in [0, 1), so group + priority sorts by group first, in one pass.
    """
    turn = np.argsort(groups + priority, kind="stable")
    counts = np.bincount(groups, minlength=len(sizes))
    rank = np.arange(len(turn)) - (np.cumsum(counts) - counts)[groups[turn]]
    chosen = np.zeros(len(groups), dtype=np.bool_)
    chosen[turn] = rank < sizes[groups[turn]]
    return chosen


def generator(settings: OrderSettings, epoch: int, purpose: str) -> np.random.Generator:
    """The random numbers of one purpose in one epoch."""
    name = f"order/{ORDER_VERSION}:{settings.content_digest}:{settings.seed}:{epoch}:{purpose}"
    key = int.from_bytes(blake2b(name.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
