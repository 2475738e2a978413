"""What a process of the pool that works on partitions obeys: its parent's word, and its end."""

import os
import signal
import threading
from multiprocessing.synchronize import Event

from tasks import progress

POLL_SECONDS = 1.0
EXIT_ORPHAN = 74


def obey(stopping: Event, parent: int) -> None:
    """Makes this process stop at its next item when it is told to, and end with its parent.

    Ctrl-C in a terminal reaches it too, but is the parent's to decide.

    Args:
        stopping: set by the parent when the work is to stop.
        parent: its process id.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(stopping, parent), daemon=True).start()


def _watch(stopping: Event, parent: int) -> None:
    while not stopping.wait(POLL_SECONDS):
        if os.getppid() != parent:
            os._exit(EXIT_ORPHAN)  # nobody is left to take a result; what is committed stays
    progress.stop()
