"""A budget of memory that decoding threads share."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Condition


class MemoryBudget:
    """Lets threads hold parts of a number of bytes, in the order in which they ask.

    What is larger than the whole is held alone. As nobody overtakes, a large part is never starved
    by small ones; whoever holds a part must not ask for another before giving it back.
    """

    def __init__(self, total: int) -> None:
        self._total, self._held = total, 0
        self._queue: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        """Waits until `num_bytes` fit, and holds them while the context lasts."""
        self._take(num_bytes)
        try:
            yield
        finally:
            with self._changed:
                self._held -= num_bytes
                self._changed.notify_all()

    def _take(self, num_bytes: int) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._fits(num_bytes))
                self._held += num_bytes
            finally:
                # Also when waiting was interrupted: those behind must not wait for ever.
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _fits(self, num_bytes: int) -> bool:
        return not self._held or self._held + num_bytes <= self._total


@lru_cache(maxsize=8)
def decode_budget(mebibytes: int) -> MemoryBudget:
    """The budget of `data.decode_memory_mib`, one for all threads of the process."""
    return MemoryBudget(mebibytes << 20)
