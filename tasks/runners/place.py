"""What every place where partitions are worked on has in common."""

from collections.abc import Callable

from tasks import progress

POLL_SECONDS = 0.5


class WorkerLost(RuntimeError):
    """Who worked on a partition was killed; another one can do what it had not committed."""


def wait_until(is_done: Callable[[float], object]) -> None:
    """Waits for work that is done elsewhere.

    Args:
        is_done: waits so many seconds at most, and says whether it is done.

    Raises:
        KeyboardInterrupt: this process was asked to stop.
    """
    while not is_done(POLL_SECONDS):
        progress.check()
