"""The Prefect task runners that partitions are spread over, by the setting `workers.runner`.

They are not the flow's own: a runner is started when the first partition needs it, so that a run
that finds everything cached starts no cluster.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from prefect import Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.states import Crashed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from tasks.config.problems import ConfigError, Problem, as_toml
from tasks.config.worker_checks import RUNNER
from tasks.config.workers import WorkersConfig
from tasks.runners.child import obey

LOCAL_WORKERS = 2
"""A partition keeps several cores busy by itself; two hide each other's waits."""
MAX_LOST = 3
"""So many times may workers of the pool be killed; Dask and Ray have the same limit."""
RAY_STORE_BYTES = 80 * 2**20
"""Only paths and counts cross a task boundary; Ray would take a third of the memory."""

KILLED = "its process was killed; the partition is worked on again"
_LOG = logging.getLogger("tilewright.workers")

Call = tuple[Task[..., Any], dict[str, Any]]
"""A task and its parameters."""


@dataclass(frozen=True, slots=True)
class Runner:
    """How partitions are given to a kind of worker."""

    start: Callable[[WorkersConfig], AbstractContextManager[TaskRunner[Any]]]
    on_gpu: Callable[[float], AbstractContextManager[Any]] = nullcontext
    """Partitions that are submitted inside take such a share of a GPU."""
    module: str | None = None
    """What the extra of the runner's name brings."""


def _threads(_workers: WorkersConfig) -> TaskRunner[Any]:
    """Partitions use all cores themselves, so one by one."""
    return ThreadPoolTaskRunner(max_workers=1)


@contextmanager
def _processes(workers: WorkersConfig) -> Iterator[TaskRunner[Any]]:
    """Processes that are spawned, not forked: CUDA and torch's threads survive no fork."""
    stopping = get_context("spawn").Event()
    pool: TaskRunner[Any] = ProcessPoolTaskRunner(
        max_workers=workers.count or LOCAL_WORKERS,
        initializer=obey,
        initargs=(stopping, os.getpid()),
    )
    with pool:
        try:
            yield pool
        finally:
            stopping.set()  # leaving the pool waits for what its processes still do


def _dask(workers: WorkersConfig) -> TaskRunner[Any]:
    """A cluster at an address, or one of processes of this machine."""
    from prefect_dask import DaskTaskRunner

    local = {
        "n_workers": workers.count or LOCAL_WORKERS,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "resources": {"GPU": 1.0},
    }
    where = {"cluster_kwargs": local} if workers.address is None else {"address": workers.address}
    runner: TaskRunner[Any] = DaskTaskRunner(**where)
    return runner


def _ray(workers: WorkersConfig) -> TaskRunner[Any]:
    """A cluster at an address, or one of this machine."""
    from prefect_ray import RayTaskRunner

    local = {
        "num_cpus": workers.count or LOCAL_WORKERS,
        "object_store_memory": RAY_STORE_BYTES,
        "include_dashboard": False,
    }
    where = {"init_kwargs": local} if workers.address is None else {"address": workers.address}
    runner: TaskRunner[Any] = RayTaskRunner(**where)
    return runner


def _on_dask_gpu(share: float) -> AbstractContextManager[Any]:
    import dask

    inside: AbstractContextManager[Any] = dask.annotate(resources={"GPU": share})
    return inside


def _on_ray_gpu(share: float) -> AbstractContextManager[Any]:
    from prefect_ray.context import remote_options

    inside: AbstractContextManager[Any] = remote_options(num_gpus=share)
    return inside


RUNNERS: Mapping[str, Runner] = {
    "threads": Runner(_threads),
    "processes": Runner(_processes),
    "dask": Runner(_dask, _on_dask_gpu, "prefect_dask"),
    "ray": Runner(_ray, _on_ray_gpu, "prefect_ray"),
}


class Workers:
    """Who works on the partitions of one preparation; a context manager.

    Raises:
        ConfigError: on entering, when the packages of the runner are not installed.
    """

    def __init__(self, config: WorkersConfig) -> None:
        self._config = config
        self._runner = RUNNERS[config.runner]
        self._open = ExitStack()
        self._started: TaskRunner[Any] | None = None
        self._num_lost = 0
        self._crashed: list[UUID] = []

    def __enter__(self) -> Self:
        name, module = self._config.runner, self._runner.module
        if module is not None and find_spec(module) is None:
            told = f"needs an extra: install tilewright[{name}]"
            raise ConfigError([Problem(RUNNER, told, as_toml(name))])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)
        if self._crashed:
            self._show_crashed()

    def run(
        self, calls: Mapping[int, Call], told: Callable[[int], None], *, gpu: bool = False
    ) -> dict[int, Any]:
        """Runs tasks and returns what they gave, by their numbers.

        A task whose worker was killed runs again on another one.

        Args:
            calls: the tasks, by number.
            told: called with how many are done, where the tasks themselves cannot say it.
            gpu: whether they use a GPU where there is one.

        Raises:
            BrokenExecutor: workers were killed again and again.
        """
        done: dict[int, Any] = {}
        while len(done) < len(calls):
            futures = self._submitted({n: calls[n] for n in calls if n not in done}, gpu)
            try:
                for number, future in futures.items():
                    done[number] = future.result()
                    if self._config.runner != "threads":
                        told(len(done))
            except BrokenExecutor:
                done |= self._renewed(futures)
        return done

    def _submitted(self, calls: Mapping[int, Call], gpu: bool) -> dict[int, PrefectFuture[Any]]:
        if self._started is None:
            self._started = self._open.enter_context(self._runner.start(self._config))
        share = self._config.gpus if gpu else 0.0
        with self._runner.on_gpu(share) if share else nullcontext():
            return {n: self._started.submit(*call) for n, call in calls.items()}

    def _renewed(self, futures: Mapping[int, PrefectFuture[Any]]) -> dict[int, Any]:
        """Ends a pool that lost a process, and returns what it had finished.

        Raises:
            BrokenExecutor: it was lost once too often.
        """
        self._num_lost += 1
        done = {}
        for number, future in futures.items():
            try:
                done[number] = future.result()
            except BrokenExecutor:
                self._crashed.append(future.task_run_id)
                if self._num_lost > MAX_LOST:
                    raise
        _LOG.warning("a partition has no process left: %s", KILLED)
        self._open.close()
        self._started = None
        return done

    def _show_crashed(self) -> None:
        """Ends the task runs of killed processes, which would be shown as running for ever.

        Only now: the server hears of a task run seconds after it began. Those that waited for a
        process never began.
        """
        with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
            for run in self._crashed:
                with suppress(ObjectNotFound):
                    killed: State[Any] = Crashed(message=KILLED)
                    client.set_task_run_state(run, killed, force=True)
