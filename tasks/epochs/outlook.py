"""Outlook: what the epochs of a training will be, for a dataset that exists or is only planned.

    record = outlook(
        table,                           # DATASET rows, or `dataset_rows(...)` of a plan
        order_settings(config, digest),  # the version's content_digest; None for a plan
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
    )

`order_settings` is in `tasks.epochs.settings`. Nothing is estimated but what `Outlook` says is: the
epochs that are looked at are drawn exactly as training draws them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.epochs.columns import ORDER_COLUMNS, order_columns
from tasks.epochs.entries import Bools, Ints, OrderColumns, OrderSettings, active_rows, entry_copies
from tasks.epochs.order import EpochOrder, arrange

MOST_EPOCHS = 20
MOST_ENTRIES = 3_000_000
"""Epochs are looked at until this many entries, so that an outlook takes a few seconds at most."""
MOST_TURNS = 30_000_000
"""Rows x epochs whose turns are looked at beyond that."""
ENLARGED = 1.005
"""A cover-resize rounds to whole pixels: less than half a percent is no enlargement."""

Kind = Literal["full", "detail", "context"]
Reason = Literal["off", "turn", "choice", "remainder", "steps"]
"""Why a row is in no epoch that was looked at: `off`: repeats or samples_per_epoch are 0; `turn`:
there are too few epochs for its resolution, variation or grid phase; `choice`: it was not drawn
(repeats below 1, samples_per_epoch, tiles_per_source_per_epoch); `remainder`: it was in an
incomplete batch or step each time, with data.remainder = "drop"; `steps`: max_steps came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOutlook:
    """One epoch; `dropped` and `repeated` are entries per bucket name such as 512x768."""

    epoch: int
    """From 0."""
    steps: int
    """Optimizer steps of the whole epoch."""
    entries: int
    """Trainings of a row before anything was dropped or repeated."""
    dropped: Mapping[str, int]
    repeated: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindShare:
    """What the rows of one kind are of everything that is trained."""

    kind: Kind
    samples: int
    """Training rows of the kind."""
    share: float
    """Of all that is trained in the epochs looked at, 0..1."""
    enlarged: int
    """Training rows whose pixels are larger than they are in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Rows of a bucket that no epoch looked at trains, for one reason.

    Rows whose first turn comes in a later epoch are not counted.
    """

    bucket: str
    reason: Reason
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the first epochs of a training will be."""

    num_rows: int
    """Training rows; validation rows count nowhere here."""
    num_epochs: int | None
    """Epochs of the whole training; None when `max_steps` ends it after those looked at."""
    num_steps: int
    """Steps of the whole training; estimated from the epochs looked at unless they are all."""
    exact: bool
    """Whether the whole training was looked at."""
    batch_size: int
    step_size: int
    remainder: str
    epochs: tuple[EpochOutlook, ...]
    """The epochs looked at: the first ones."""
    kinds: tuple[KindShare, ...]
    """In the order full, detail, context; kinds without rows are left out."""
    unseen: tuple[Unseen, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        plain = asdict(self).items()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain}


@dataclass(frozen=True, slots=True)
class _Tally:
    """What happened to each row so far."""

    had_turn: Bools
    was_drawn: Bools
    was_kept: Bools
    times: Ints
    """How often it was trained."""


def outlook(
    table: pa.Table, settings: OrderSettings, *, epochs: int, max_steps: int | None = None
) -> Outlook:
    """What `epochs` epochs, or `max_steps` steps when given, make of the training rows.

    Args:
        table: rows of a dataset, planned or made; where their items are is not read.
        settings: those of `order_settings`.
        epochs: of the training; without meaning when `max_steps` is given.
        max_steps: of the training.
    """
    names = [*ORDER_COLUMNS, "original_width", "original_height"]
    rows = table.filter(pc.equal(table["split"], "train")).select(names)
    columns, buckets = order_columns(rows)
    num_rows: int = rows.num_rows
    turn, drawn, kept = (np.zeros(num_rows, dtype=np.bool_) for _ in range(3))
    tally = _Tally(turn, drawn, kept, np.zeros(num_rows, dtype=np.int64))
    orders = _looked(columns, settings, tally, None if max_steps else epochs, max_steps)
    looked = tuple(_epoch_outlook(order, buckets) for order in orders)
    steps = sum(epoch.steps for epoch in looked)
    whole = len(looked) == epochs if max_steps is None else steps >= max_steps
    total = epochs if max_steps is None else ceil(max_steps / max(steps, 1) * len(looked))
    return Outlook(
        num_rows=num_rows,
        num_epochs=epochs if max_steps is None else (len(looked) if whole else None),
        num_steps=max_steps or (steps if whole else round(steps / len(looked) * epochs)),
        exact=whole,
        batch_size=settings.batch_size,
        step_size=settings.step_size,
        remainder=settings.remainder,
        epochs=looked,
        kinds=_kinds(rows, tally.times),
        unseen=_unseen(columns, buckets, tally, _later(columns, tally, looked, total)),
    )


def _looked(
    columns: OrderColumns,
    settings: OrderSettings,
    tally: _Tally,
    epochs: int | None,
    max_steps: int | None,
) -> Iterator[EpochOrder]:
    """The epochs that are looked at; each is counted in `tally`."""
    num_rows = len(columns.bucket)
    steps = work = 0
    for epoch in range(min(epochs or MOST_EPOCHS, MOST_EPOCHS)):
        active = active_rows(columns, epoch)
        copies = entry_copies(columns, settings, epoch, active)
        order = arrange(columns, settings, epoch, np.repeat(np.arange(num_rows), copies))
        left = None if max_steps is None else (max_steps - steps) * settings.step_size
        tally.had_turn[active] = True
        tally.was_drawn[copies > 0] = True
        tally.was_kept[order.rows] = True
        tally.times[:] += np.bincount(order.rows[:left].ravel(), minlength=num_rows)
        yield order
        steps, work = steps + order.num_steps, work + max(num_rows, order.num_entries)
        too_much = work / (epoch + 1) * (epoch + 2) > MOST_ENTRIES
        if too_much or (max_steps is not None and steps >= max_steps):
            return


def _epoch_outlook(order: EpochOrder, buckets: tuple[str, ...]) -> EpochOutlook:
    return EpochOutlook(
        epoch=order.epoch,
        steps=order.num_steps,
        entries=order.num_entries,
        dropped={buckets[code]: count for code, count in order.num_dropped.items()},
        repeated={buckets[code]: count for code, count in order.num_repeated.items()},
    )


def _kinds(rows: pa.Table, times: Ints) -> tuple[KindShare, ...]:
    kinds = rows["kind"].to_numpy()
    enlarged = enlargement(rows) > ENLARGED
    total = max(int(times.sum()), 1)
    of_kind = {kind: kinds == kind for kind in get_args(Kind)}
    return tuple(
        KindShare(
            kind=kind,
            samples=int(chosen.sum()),
            share=float(times[chosen].sum() / total),
            enlarged=int(enlarged[chosen].sum()),
        )
        for kind, chosen in of_kind.items()
        if chosen.any()
    )


def enlargement(rows: pa.Table) -> NDArray[np.float64]:
    """How much larger each row's source was made, at least along one side."""
    factors = [
        rows[f"resized_{side}"].to_numpy() / rows[f"original_{side}"].to_numpy()
        for side in ("width", "height")
    ]
    return np.asarray(np.maximum(*factors), dtype=np.float64)


def _later(
    columns: OrderColumns, tally: _Tally, looked: tuple[EpochOutlook, ...], total: int
) -> Bools:
    """Whether a row has its first turn after the epochs looked at, of `total`."""
    rounds = columns.num_phases * columns.num_resolutions * columns.num_variations
    turn: Bools = rounds <= total
    if not turn.all():
        most = len(looked) + MOST_TURNS // len(turn)
        for epoch in range(len(looked), min(total, most)):
            turn |= active_rows(columns, epoch)
    return turn & ~tally.had_turn


def _unseen(
    columns: OrderColumns, buckets: tuple[str, ...], tally: _Tally, later: Bools
) -> tuple[Unseen, ...]:
    off = np.where(columns.samples < 0, columns.repeats, columns.samples) == 0
    never = (tally.times == 0) & (off | ~later)
    excuses = (off, ~tally.had_turn, ~tally.was_drawn, ~tally.was_kept, never)
    reason = np.select(excuses, range(len(excuses)))
    found = columns.bucket[never] * len(excuses) + reason[never]
    codes, counts = np.unique(found, return_counts=True)
    reasons = get_args(Reason)
    return tuple(
        Unseen(bucket=buckets[code // len(excuses)], reason=reasons[code % len(excuses)], rows=rows)
        for code, rows in zip(codes.tolist(), counts.tolist(), strict=True)
    )
