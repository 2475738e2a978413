"""Partitions on threads, processes, Dask and Ray give one and the same dataset version.

Each preparation is a command of its own against a real server. The tiles are so many that crops
and latents have several partitions.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.command_outcome import BAD_INPUT, INTERRUPTED
from flows.server_supervisor import free_port
from storage.store import open_store
from storage.versions import Version, latest_version, read_rows
from tests.model_fixtures import TinyModels
from tests.projects import Project, copy_project, make_project
from tests.server_fixtures import BIN, PrefectServer, wait_for

PARTITIONS = {"crops": 2, "latents": 2}
STOP_SECONDS = 30.0


def needs(module: str) -> pytest.MarkDecorator:
    reason = f"{module} is not installed (an extra that the lock leaves out)"
    return pytest.mark.skipif(find_spec(module) is None, reason=reason)


def runner(name: str, *settings: str) -> list[str]:
    """The `--set` options of a runner."""
    return [part for one in (f"runner={name}", *settings) for part in ("--set", f"workers.{one}")]


each_runner = pytest.mark.parametrize(
    ("name", "mark"),
    [
        pytest.param("processes", "tasks.runners.child", id="processes"),
        pytest.param("dask", "spawn_main", id="dask", marks=needs("distributed")),
        pytest.param("ray", "ray::work_partition", id="ray", marks=needs("ray")),
    ],
)
"""With a part of the command line of its workers."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    project = make_project(
        tmp_path_factory.mktemp("runners") / "project", tiny_models["sd15"], num_photos=0
    )
    text = project.run_toml.read_text()
    project.run_toml.write_text(text.replace("scales = [2]", "scales = [16]"))
    for number in range(3):
        project.add_photo(f"photo{number}", number, f"photo {number}", size=(1600, 1120))
    return project


@pytest.fixture
def copied(project: Project, tmp_path: Path) -> Project:
    """The project with an empty store, its photos where they were: they are part of the rows."""
    copy = copy_project(project, tmp_path / "copy")
    text = copy.run_toml.read_text()
    copy.run_toml.write_text(text.replace('path = "photos"', f'path = "{project.photos}"'))
    return copy


@pytest.fixture(scope="module")
def by_threads(prefect_server: PrefectServer, project: Project) -> dict[str, Any]:
    prefect_server.tilewright("prepare", project.run_toml, "--json").summary()
    states = prefect_server.task_states(prefect_server.newest_run())
    for stage, number in PARTITIONS.items():
        assert states[f"{stage} {number}/{number}"] == "Completed"
    return made(project)


def made(project: Project) -> dict[str, Any]:
    """What the newest version holds: its digest, and every row with the checksums of its items."""
    store = open_store(project.config().store.url, create=False)
    version = latest_version(store, "test")
    assert isinstance(version, Version)
    rows = read_rows(store, version).to_pylist()
    return {"digest": version.content_digest, "rows": [_placeless(row) for row in rows]}


def _placeless(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts without where items lie: shards are named at random, and items in them have no order
    that counts."""
    return {
        name: [_placeless(one) for one in value] if name == "texts" else value
        for name, value in facts.items()
        if name.removeprefix("latent_") not in ("shard", "offset")
    }


@pytest.mark.slow  # in the default part, that of killed workers looks at the version too
@each_runner
def test_every_runner_makes_the_same_version(
    prefect_server: PrefectServer,
    by_threads: dict[str, Any],
    copied: Project,
    name: str,
    mark: str,
) -> None:
    settings = runner(name)
    answer = prefect_server.tilewright("prepare", copied.run_toml, *settings, "--json")
    answer.summary()
    assert made(copied) == by_threads
    states = prefect_server.task_states(prefect_server.newest_run())
    assert set(states.values()) <= {"Completed", "Cached"}
    assert states["latents 2/2"] == "Completed"
    assert "latents: 2/2 partitions" in answer.stderr


@contextmanager
def dask_cluster(server: PrefectServer, log: Path) -> Iterator[str]:
    """A scheduler and a process with two workers, one of which has a GPU, so it is told."""
    address = f"tcp://127.0.0.1:{free_port()}"
    one = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
    scheduler = ("scheduler", "--host", address, "--no-dashboard")
    with (
        running(server, log, BIN / "dask", *scheduler),
        running(server, log, BIN / "dask", "worker", address, *one),
        running(server, log, BIN / "dask", "worker", address, *one, "--resources", "GPU=1"),
    ):
        wait_for(lambda: log.read_text().count("Registered to:") >= 2)
        yield address


@contextmanager
def ray_cluster(server: PrefectServer, log: Path) -> Iterator[str]:
    """A node of a Ray cluster with a GPU, so it is told."""
    port = free_port()
    has = ("--num-cpus", "2", "--num-gpus", "1", "--object-store-memory", str(80 * 2**20))
    at = ("--node-ip-address", "127.0.0.1", "--port", str(port), "--include-dashboard", "false")
    with running(server, log, BIN / "ray", "start", "--head", "--block", *at, *has):
        wait_for(lambda: "Ray runtime started" in log.read_text())
        yield f"127.0.0.1:{port}"


@contextmanager
def running(server: PrefectServer, log: Path, *command: str | Path) -> Iterator[None]:
    """A process that writes to a log, and is gone afterwards with all that it started."""
    with log.open("a") as output:
        process = server.start(*command, stdout=output, stderr=output)
    try:
        yield
    finally:
        tree = [*psutil.Process(process.pid).children(recursive=True), process]
        process.terminate()
        _, alive = psutil.wait_procs(tree[:-1], 10.0)
        for one in alive:
            one.kill()
        process.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cluster"),
    [
        pytest.param("dask", dask_cluster, id="dask", marks=needs("distributed")),
        pytest.param("ray", ray_cluster, id="ray", marks=needs("ray")),
    ],
)
def test_a_running_cluster_makes_the_same_version(
    prefect_server: PrefectServer,
    by_threads: dict[str, Any],
    copied: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    cluster: Callable[[PrefectServer, Path], AbstractContextManager[str]],
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # as `ray start` has it by default
    with cluster(prefect_server, tmp_path / "log") as address:
        settings = runner(name, f"address={address}", "gpus=0.5")
        prefect_server.tilewright("prepare", copied.run_toml, *settings, "--json").summary()
        assert made(copied) == by_threads
    # Nothing is left to do, so no cluster is needed.
    prefect_server.tilewright("prepare", copied.run_toml, *settings, "--json").summary()


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("dask", marks=needs("distributed")),
                                  pytest.param("ray", marks=needs("ray"))])  # fmt: skip
def test_a_cluster_that_does_not_answer_is_bad_input(
    prefect_server: PrefectServer, copied: Project, name: str
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    settings = runner(name, f"address={nobody}")
    answer = prefect_server.tilewright("prepare", copied.run_toml, *settings)
    assert answer.code == BAD_INPUT, answer.stderr
    assert "workers.address" in answer.stderr
    assert nobody in answer.stderr


class Preparing:
    """A preparation that is under way, with a process group of its own."""

    def __init__(self, server: PrefectServer, project: Project, log: Path, name: str) -> None:
        self.log, self._project = log, project
        command = [BIN / "tilewright", "prepare", project.run_toml, *runner(name)]
        with log.open("w") as output:
            self.process = server.start(*command, stderr=output, start_new_session=True)

    def wait_for_stage(self, name: str) -> None:
        """Returns when a stage is planned; at latents, workers have yet to load the model."""
        store = self._project.folder / "store"

        def is_planned() -> list[Path]:
            assert self.process.poll() is None, self.log.read_text()
            return [*store.glob(f"stages/{name}/*/stage.json")]

        wait_for(is_planned, 200)

    def workers(self, marks: str) -> list[psutil.Process]:
        """The processes that work for it."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in below if marks in " ".join(one.cmdline())]

    def end(self, number: int, *, group: bool) -> float:
        """Sends a signal, and returns after how many seconds the command had ended by it."""
        started = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        assert self.process.wait(STOP_SECONDS) == INTERRUPTED, self.log.read_text()
        return time.monotonic() - started


@each_runner
def test_the_partition_of_a_killed_worker_runs_again(
    prefect_server: PrefectServer,
    by_threads: dict[str, Any],
    copied: Project,
    tmp_path: Path,
    name: str,
    mark: str,
) -> None:
    preparing = Preparing(prefect_server, copied, tmp_path / "log", name)
    preparing.wait_for_stage("latents")
    time.sleep(1.0)
    (killed, *_) = preparing.workers(mark)
    killed.kill()
    assert preparing.process.wait(200) == 0, preparing.log.read_text()
    assert "latents: 2/2 partitions" in preparing.log.read_text()
    assert made(copied) == by_threads
    # Each task run has ended, also that whose worker could not say so itself.
    states = prefect_server.task_states(prefect_server.newest_run())
    assert set(states.values()) <= {"Completed", "Cached"}
    assert states["latents seal"] == "Completed"


@pytest.mark.parametrize(
    "stage",
    [
        "crops",
        pytest.param("latents", marks=pytest.mark.slow),  # workers load the model meanwhile
    ],
)
@pytest.mark.parametrize("group", [True, False], ids=["ctrl-c", "sigterm"])
@each_runner
def test_an_interrupt_ends_the_workers_too(
    prefect_server: PrefectServer,
    copied: Project,
    tmp_path: Path,
    *,
    name: str,
    mark: str,
    group: bool,
    stage: str,
) -> None:
    preparing = Preparing(prefect_server, copied, tmp_path / "log", name)
    preparing.wait_for_stage(stage)
    workers = wait_for(lambda: preparing.workers(mark))
    preparing.end(signal.SIGINT if group else signal.SIGTERM, group=group)
    assert psutil.wait_procs(workers, 10.0)[1] == []
    prefect_server.task_states(prefect_server.newest_run())  # waits until all have ended


@each_runner
def test_no_worker_outlives_a_killed_command(
    prefect_server: PrefectServer, copied: Project, tmp_path: Path, name: str, mark: str
) -> None:
    preparing = Preparing(prefect_server, copied, tmp_path / "log", name)
    workers = wait_for(lambda: preparing.workers(mark), 120)
    preparing.process.kill()
    preparing.process.wait(10)
    assert psutil.wait_procs(workers, STOP_SECONDS)[1] == []
