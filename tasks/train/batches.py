"""Batches: the steps of a training in the order of its epochs, read ahead by threads.

No worker processes: items are read by `preadv` on threads of this process, which hold no copy of
the model and leave nothing behind when it is killed.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TypeVar

from tasks.epochs.order import EpochOrder, epoch_plan
from tasks.train.assemble import Source, assemble
from tasks.train.batch import Batch, StepBatches

T = TypeVar("T")
MAX_EMPTY_EPOCHS = 1000
READ_AHEAD = 2
"""Batches in preparation beside the ones of the running step."""
READ_THREADS = 2
"""Threads that read cached items; decoding and encoding may use more."""


def step_batches(source: Source, epoch: int, step: int) -> Generator[StepBatches, None, None]:
    """The steps of this rank from step `step` of epoch `epoch` on, through all later epochs.

    Close the iterator to stop its threads.
    """
    per_step = source.order.step_size // source.world
    places: deque[tuple[EpochOrder, int]] = deque()

    def jobs() -> Iterator[Callable[[], Batch]]:
        for place in _places(source, epoch, step):
            places.append(place)
            order, number = place
            for micro in order.micro_batches(number, source.rank, source.world):
                yield partial(_prepared, source, order, micro)

    threads = source.encoder.threads if source.encoder else READ_THREADS
    depth = per_step + max(READ_AHEAD, threads)
    with closing(read_ahead(jobs(), depth, threads)) as batches:
        while True:
            step_rows = [next(batches) for _ in range(per_step)]
            order, number = places.popleft()
            yield StepBatches(
                epoch=order.epoch,
                step_in_epoch=number,
                ends_epoch=number + 1 == order.num_steps,
                batches=step_rows,
            )


def _prepared(source: Source, order: EpochOrder, micro: int) -> Batch:
    batch = assemble(source, order, micro)
    return batch.pinned() if source.pins else batch


def read_ahead(
    jobs: Iterable[Callable[[], T]], depth: int, threads: int = READ_THREADS
) -> Generator[T, None, None]:
    """Results of `jobs` in order, `depth` of them running or waiting at any time."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    waiting: deque[Future[T]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _places(source: Source, epoch: int, step: int) -> Iterator[tuple[EpochOrder, int]]:
    """Each step to come: its epoch's order and its number there."""
    num_empty = 0
    while num_empty < MAX_EMPTY_EPOCHS:
        order = epoch_plan(source.rows.order, source.order, epoch)
        # One row at half a repeat has an epoch without steps now and then; that is no error.
        num_empty = 0 if order.num_steps else num_empty + 1
        for number in range(step, order.num_steps):
            yield order, number
        epoch, step = epoch + 1, 0
    needed = source.order.batch_size * source.order.step_size
    raise ValueError(
        f"no epoch has a complete optimizer step of {needed} samples: there are "
        f"{len(source.rows.order.bucket)} rows in {len(source.rows.buckets)} buckets. Use "
        'data.remainder = "repeat", a smaller train.batch_size or more data (concepts with '
        "repeats or samples_per_epoch of 0 train nothing)."
    )
