"""Workers: decode on some threads, encode on others, with a bounded number of images between.

On a CPU every encoding thread runs its own image on one core, which beats one image on all cores
(no synchronisation inside layers, and decoding fills the gaps). A GPU gets one encoding thread and
batches of equal shape.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.files.reading import thread_map
from tasks.imaging.views import View

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

J = TypeVar("J")
Item = tuple[bytes, View, "Pixels"]
"""(item key, view, (H, W, 3) uint8 pixels)"""
Group = Callable[[], list[Item] | Iterator[Item]]
"""Makes the items of one source."""
Encode = Callable[[list["Pixels"]], list[Any]]
"""Pixels of one shape to one result each."""


def encode_items(
    items: Iterable[Item],
    encode: Encode,
    *,
    batch_size: int,
    encoders: int,
) -> Iterator[tuple[bytes, Any]]:
    """(key, encoded) of every item, in the order in which they are done.

    At most `encoders + 1` batches are in flight, so memory does not grow with the work.
    """

    def run(batch: list[Item]) -> list[tuple[bytes, Any]]:
        results = encode([pixels for _, _, pixels in batch])
        return [(key, result) for (key, _, _), result in zip(batch, results, strict=True)]

    with one_core_each(encoders), ThreadPoolExecutor(encoders) as pool:
        running: set[Future[list[tuple[bytes, Any]]]] = set()
        for batch in same_shape_batches(items, batch_size):
            running.add(pool.submit(run, batch))
            if len(running) > encoders:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        for future in running:
            yield from future.result()


def encode_groups(
    groups: Iterable[Group], encode: Encode, *, encoders: int
) -> Iterator[tuple[bytes, Any]]:
    """(key, encoded) of every item of every group, one by one, each group whole on one thread.

    That thread also makes the group's items: nothing waits for another, and no more threads than
    cores share the caches. A group given as an iterator is too large for one thread.
    """

    def run(group: Group) -> list[tuple[bytes, Any]] | Iterator[Item]:
        items = group()
        if not isinstance(items, list):
            return items
        return [(key, encode([pixels])[0]) for key, _, pixels in items]

    with one_core_each(encoders):
        for done in thread_map(run, groups, encoders):
            if isinstance(done, list):
                yield from done
            else:
                yield from encode_items(done, encode, batch_size=1, encoders=encoders)


def same_shape_batches(items: Iterable[Item], batch_size: int) -> Iterator[list[Item]]:
    """Batches of equal pixel shape; a shape's incomplete batch is given when the items end."""
    waiting: dict[tuple[int, ...], list[Item]] = {}
    for item in items:
        batch = waiting.setdefault(item[2].shape, [])
        batch.append(item)
        if len(batch) == batch_size:
            yield waiting.pop(item[2].shape)
    yield from waiting.values()


def batched(values: Iterable[J], size: int) -> Iterator[list[J]]:
    """Lists of at most `size` values."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


@contextmanager
def one_core_each(workers: int) -> Iterator[None]:
    """While several threads encode at once, torch uses one core in each of them."""
    import torch

    before = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
