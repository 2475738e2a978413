"""A Prefect concurrency limit that lets only so many of our tasks use this machine's GPU.

The limit is made with one slot when it is first needed. Whoever has room for more raises it in the
Prefect UI (Concurrency) or switches it off there. A slot whose holder was killed is free again
after LEASE_SECONDS.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from tasks import progress
from tasks.config.models import Config

LEASE_SECONDS = 60.0
POLL_SECONDS = 2.0
_DRIVER = Path("/proc/driver/nvidia/gpus")
_LOG = logging.getLogger("tilewright.gpu")


def limit_name() -> str:
    """The name of this machine's limit."""
    return f"tilewright-gpu-{socket.gethostname()}"


def takes_turns(config: Config) -> bool:
    """Whether tasks take turns with this machine's GPU: as configured, else if it has one."""
    return _DRIVER.is_dir() if config.gpu_limit is None else config.gpu_limit


@contextmanager
def gpu_slot(config: Config, *, needed: bool = True) -> Iterator[None]:
    """Holds a slot of the GPU; waits for one, and stops waiting when the process is to stop.

    Args:
        config: says whether tasks take turns.
        needed: whether the work uses the GPU at all.
    """
    with ExitStack() as held:
        if needed and takes_turns(config):
            require_limit()
            held.enter_context(_acquired())
        yield


@contextmanager
def _acquired() -> Iterator[None]:
    told = False
    with ExitStack() as held:
        while True:
            progress.check()
            slot = concurrency(
                limit_name(),
                timeout_seconds=POLL_SECONDS,
                lease_duration=LEASE_SECONDS,
                strict=True,
                # A server that is away for a minute must not end hours of training.
                raise_on_lease_renewal_failure=False,
            )
            with suppress(TimeoutError):
                held.enter_context(slot)
                break
            if not told:
                _LOG.warning("waiting for the GPU: the Prefect limit %s is in use", limit_name())
                told = True
        yield


def require_limit() -> int | None:
    """Makes the limit with one slot if there is none yet; gives the slots of one that was there."""
    with get_client(sync_client=True) as client:
        try:
            return int(client.read_global_concurrency_limit_by_name(limit_name()).limit)
        except ObjectNotFound:
            limit = GlobalConcurrencyLimitCreate(name=limit_name(), limit=1)
            with suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(limit)
    return None
