"""In which order an epoch trains its rows: a pure function of (dataset, seed, epoch, global batch).

Why pure: a resumed run computes the same epoch again and goes on at step k, and any number of ranks
sees the same steps as long as ranks x accumulation is equal. No sampler state is ever saved.

Words: an *entry* is one training of one row (`entries` says which); a *micro-batch* is `batch_size`
entries of one bucket; an optimizer step takes `step_size` = ranks x accumulation consecutive
micro-batches.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.epochs.entries import (
    Ints,
    OrderColumns,
    OrderSettings,
    generator,
    is_changing,
    select_entries,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOrder:
    """The micro-batches of one epoch."""

    epoch: int
    step_size: int
    rows: Ints
    """(M, batch_size) row numbers; M is a multiple of step_size."""
    buckets: Ints
    """(M,) bucket code of each micro-batch."""
    num_entries: int
    """Entries of the epoch before anything was dropped or repeated."""
    num_dropped: Mapping[int, int] = field(default_factory=dict)
    """Bucket code to the number of entries left out in this epoch."""
    num_repeated: Mapping[int, int] = field(default_factory=dict)
    """Bucket code to the number of entries trained once more to fill batches and the last step."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of this epoch."""
        return len(self.rows) // self.step_size

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """Numbers of the micro-batches that `rank` of `world` takes in `step` (from 0)."""
        first = step * self.step_size
        return list(range(first + rank, first + self.step_size, world))


def epoch_plan(columns: OrderColumns, settings: OrderSettings, epoch: int) -> EpochOrder:
    """The order of one epoch (numbered from 0)."""
    return arrange(columns, settings, epoch, select_entries(columns, settings, epoch))


def arrange(
    columns: OrderColumns, settings: OrderSettings, epoch: int, entries: Ints
) -> EpochOrder:
    """The order of an epoch that trains these entries."""
    shuffled = entries[generator(settings, epoch, "rows").permutation(len(entries))]
    by_bucket = shuffled[np.argsort(columns.bucket[shuffled], kind="stable")]
    rows, buckets, spare = _cut(by_bucket, columns.bucket, settings)
    turn = generator(settings, epoch, "batches").permutation(len(rows))
    rows, buckets = rows[turn], buckets[turn]
    taken = _fill_last_step(len(rows), settings)
    dropped, repeated = _changes(spare, buckets, taken, settings)
    return EpochOrder(
        epoch=epoch,
        step_size=settings.step_size,
        rows=rows[taken],
        buckets=buckets[taken],
        num_entries=len(entries),
        num_dropped=dropped,
        num_repeated=repeated,
    )


def steps_per_epoch(columns: OrderColumns, settings: OrderSettings, epoch: int) -> int:
    """`epoch_plan(...).num_steps` without shuffling."""
    entries = select_entries(columns, settings, epoch)
    counts = np.bincount(columns.bucket[entries])
    full, rest = np.divmod(counts, settings.batch_size)
    repeat = settings.remainder == "repeat"
    num_batches = int(full.sum()) + (int((rest > 0).sum()) if repeat else 0)
    steps, left = divmod(num_batches, settings.step_size)
    return steps + (1 if repeat and left else 0)


def epoch_steps(columns: OrderColumns, settings: OrderSettings) -> Iterator[int]:
    """Steps of epoch 0, 1, 2, ... without end; computed once when all epochs are equally long."""
    changing = is_changing(columns)
    first = steps_per_epoch(columns, settings, 0)
    epoch = 0
    while True:
        yield steps_per_epoch(columns, settings, epoch) if changing and epoch else first
        epoch += 1


def _cut(by_bucket: Ints, bucket: Ints, settings: OrderSettings) -> tuple[Ints, Ints, Ints]:
    """Micro-batches (M, batch_size), their bucket codes, and the incomplete entries per bucket."""
    size = settings.batch_size
    counts = np.bincount(bucket[by_bucket], minlength=int(bucket.max(initial=0)) + 1)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    spare = counts % size
    repeat = settings.remainder == "repeat"
    pieces = [np.empty((0, size), dtype=np.int64)]
    for code in np.flatnonzero(counts):
        members = by_bucket[starts[code] : starts[code] + counts[code]]
        num_batches = counts[code] // size + int(repeat and spare[code] > 0)
        # np.resize starts again at the front, so the filling entries differ from the last ones.
        pieces.append(np.resize(members, num_batches * size).reshape(-1, size))
    codes = np.repeat(np.arange(len(pieces) - 1), [len(piece) for piece in pieces[1:]])
    return np.concatenate(pieces), np.flatnonzero(counts)[codes], spare


def _fill_last_step(num_batches: int, settings: OrderSettings) -> Ints:
    """Numbers of the micro-batches to train: the first ones again, or without the last ones."""
    whole, left = divmod(num_batches, settings.step_size)
    if settings.remainder == "repeat" and left:
        whole += 1
    wanted = np.arange(whole * settings.step_size, dtype=np.int64)
    return wanted % max(num_batches, 1)


def _changes(
    spare: Ints, buckets: Ints, taken: Ints, settings: OrderSettings
) -> tuple[dict[int, int], dict[int, int]]:
    """Entries dropped and repeated per bucket code."""
    size = settings.batch_size
    times = np.bincount(taken, minlength=len(buckets))
    dropped = np.bincount(buckets[times == 0], minlength=len(spare)) * size
    repeated = np.bincount(buckets, weights=np.maximum(times - 1, 0), minlength=len(spare)) * size
    if settings.remainder == "drop":
        dropped = dropped + spare
    else:
        repeated = repeated + np.where(spare > 0, size - spare, 0)
    return _nonzero(dropped), _nonzero(repeated)


def _nonzero(counts: NDArray[np.generic]) -> dict[int, int]:
    return {int(code): int(counts[code]) for code in np.flatnonzero(counts)}
