"""Dask and Ray: workers of this machine, started for a run, or those of a running cluster.

Only functions, paths and counts go to a cluster; it knows nothing of Prefect.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from tasks.config.problems import ConfigError, Problem
from tasks.runners.place import WorkerLost, wait_until

LOCAL = "127.0.0.1"
CONNECT_SECONDS = 15
END_SECONDS = 5
RAY_STORE_BYTES = 80 * 2**20
"""Only paths and counts cross a task boundary; Ray would take a third of the memory."""
MAX_LOST = 3
"""So often may the worker of one partition be lost; Dask's own limit is the same."""

Call = Callable[..., Any]


@contextmanager
def dask(count: int, address: str | None, gpus: float) -> Iterator[Call]:
    """A function that calls others on Dask workers.

    Args:
        count: the workers of this machine, without an address.
        address: a running scheduler.
        gpus: the resource GPU that a call with `on_gpu` takes.
    """
    from distributed import CancelledError, Client, KilledWorker, LocalCluster

    def call(function: Call, *arguments: Any, on_gpu: bool = False) -> Any:
        takes = {"resources": {"GPU": gpus}} if gpus and on_gpu else {}
        future = client.submit(function, *arguments, pure=False, **takes)
        is_done = threading.Event()
        future.add_done_callback(lambda _: is_done.set())
        try:
            wait_until(is_done.wait)
            return future.result(timeout=END_SECONDS)
        except (KilledWorker, CancelledError) as error:
            raise WorkerLost(f"Dask workers or the scheduler were lost: {error}") from error
        finally:
            future.cancel()

    with ExitStack() as opened:
        local = {"host": LOCAL, "dashboard_address": None, "resources": {"GPU": 1.0}}
        if address is None:
            cluster = LocalCluster(n_workers=count, threads_per_worker=1, **local)
            opened.callback(cluster.close, timeout=END_SECONDS)
        with _told(address, "Dask"):
            client = Client(address or cluster, timeout=CONNECT_SECONDS, set_as_default=False)
        opened.callback(client.close, timeout=END_SECONDS)
        yield call


@contextmanager
def ray(count: int, address: str | None, gpus: float) -> Iterator[Call]:
    """A function that calls others on Ray workers.

    Args:
        count: the workers of this machine, without an address.
        address: a running cluster.
        gpus: how much of a GPU a call with `on_gpu` takes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray as ray_api

    local = {
        "address": "local",  # else Ray joins what was started on this machine before
        "num_cpus": count,
        "object_store_memory": RAY_STORE_BYTES,
        "include_dashboard": False,
        "_node_ip_address": LOCAL,
    }
    where = local if address is None else {"address": address}
    with _told(address, "Ray"), _kept_handler(signal.SIGTERM):
        if address is not None:  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray_api.init(**where, configure_logging=False)
    try:
        yield partial(_call_by_ray, gpus)
    finally:
        ray_api.shutdown()


def _call_by_ray(gpus: float, function: Call, *arguments: Any, on_gpu: bool = False) -> Any:
    import ray as ray_api
    from ray.exceptions import RayTaskError, WorkerCrashedError

    takes = {"num_gpus": gpus} if gpus and on_gpu else {}
    remote = ray_api.remote(max_retries=MAX_LOST, **takes)(function)
    answer = remote.remote(*arguments)
    try:
        wait_until(lambda seconds: ray_api.wait([answer], timeout=seconds)[0])
        return ray_api.get(answer)
    except WorkerCrashedError as error:
        raise WorkerLost(f"Ray workers were killed again and again: {error}") from error
    except RayTaskError as error:
        raise error.cause from error
    except BaseException:
        ray_api.cancel(answer, force=True)
        raise


@contextmanager
def _kept_handler(number: signal.Signals) -> Iterator[None]:
    """Puts back the handler of a signal: Ray's own ends the process without a word."""
    handler = signal.getsignal(number)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


@contextmanager
def _told(address: str | None, kind: str) -> Iterator[None]:
    """Says which setting is wrong when there is no cluster at an address."""
    try:
        yield
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        if address is None:
            raise
        told = f"no {kind} cluster answers there ({error}); start it, or leave the address out"
        if kind == "Ray":
            told += "; a cluster with tokens wants RAY_AUTH_MODE=token in the environment"
        raise ConfigError([Problem("workers.address", told, address)]) from error
