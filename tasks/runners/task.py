"""Who works on the partitions of a preparation, by the setting `workers.runner`.

Every partition is a Prefect task run on a thread of this process, whoever does the work: the thread
waits for a process or a cluster. So a task run ends also where its worker was killed, a lost worker
is one more error that a retry heals, and workers need no way to the Prefect server.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from prefect import Task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.artifacts.task import shown_progress
from tasks.config.problems import ConfigError, Problem, as_toml
from tasks.config.worker_checks import CLUSTERS, RUNNER
from tasks.config.workers import WorkersConfig
from tasks.runners.clusters import dask, ray
from tasks.runners.processes import processes

LOCAL_WORKERS = 2
"""A partition keeps several cores busy by itself; two hide each other's waits."""
MAX_SUBMITTED = 64
"""So many partitions wait at a cluster at an address; it may have more room than it has now."""

MODULES = {"dask": "distributed", "ray": "ray"}
"""What the extra of a runner's name brings."""

Call = tuple[Task[..., Any], dict[str, Any]]
"""A task and its parameters."""


def here(function: Callable[..., Any], *arguments: Any, on_gpu: bool = False) -> Any:
    """Calls a function in this process, and shows what it reports."""
    with shown_progress():
        return function(*arguments)


def _place(workers: WorkersConfig) -> AbstractContextManager[Callable[..., Any]]:
    """Gives a function that calls others where the work is done."""
    match workers.runner:
        case "processes":
            return processes()
        case "dask":
            return dask(_count(workers), workers.address, workers.gpus)
        case "ray":
            return ray(_count(workers), workers.address, workers.gpus)
    return nullcontext(here)


def _count(workers: WorkersConfig) -> int:
    """How many partitions are worked on at the same time."""
    if workers.runner == "threads":
        return 1  # partitions use all cores themselves
    return MAX_SUBMITTED if workers.address else workers.count or LOCAL_WORKERS


class Workers:
    """Who works on the partitions of one preparation; a context manager.

    Workers are started when the first partition needs them, so that a run that finds everything
    cached starts no cluster.

    Raises:
        ConfigError: on entering, when the packages of the runner are not installed.
    """

    def __init__(self, config: WorkersConfig) -> None:
        self._config = config
        self._open = ExitStack()
        self._threads: TaskRunner[Any] | None = None
        self._place: Callable[..., Any] = here

    def __enter__(self) -> Self:
        name = self._config.runner
        if name in CLUSTERS and find_spec(MODULES[name]) is None:
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

    def rest(self) -> None:
        """Ends the workers, until partitions need some again."""
        self._open.close()
        self._threads, self._place = None, here

    def call(self, function: Callable[..., Any], *arguments: Any, on_gpu: bool = False) -> Any:
        """Calls a function where the work is done, and waits for what it gives.

        Args:
            function: one of a module, so that others find it by its name.
            arguments: small records.
            on_gpu: whether it uses a GPU where there is one.
        """
        return self._place(function, *arguments, on_gpu=on_gpu)

    def run(self, calls: Mapping[int, Call], told: Callable[[int], None]) -> dict[int, Any]:
        """Runs tasks and returns what they gave, by their numbers.

        Args:
            calls: the tasks, by number.
            told: called with how many are done, where the tasks themselves cannot say it.
        """
        if self._threads is None:
            self._place = self._open.enter_context(_place(self._config))
            threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=_count(self._config))
            self._threads = self._open.enter_context(threads)
        is_here = self._place is here
        with nullcontext() if is_here else shown_progress():  # elsewhere nobody hears reports
            futures = {number: self._threads.submit(*call) for number, call in calls.items()}
            done: dict[int, Any] = {}
            for number, future in futures.items():
                done[number] = future.result()
                if not is_here:
                    told(len(done))
        return done
