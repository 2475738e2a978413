"""Up and down: a worker in the background on our own server, and what becomes of its runs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.background_worker import TOKEN, Worker, end_processes, read_worker
from flows.automations import crash_silent_runs
from flows.server_files import Identity, prepare_home, read_state
from tests.deployment_fixtures import ended, start_deployment, state_of
from tests.model_fixtures import TinyModels
from tests.projects import make_project
from tests.server_fixtures import BIN, ROOT, PrefectServer, wait_for

SLEEP = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
FOREIGN = ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILE")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The home of a server and a worker of this test's own, which are gone afterwards."""
    home = tmp_path / "home"
    prepare_home(home)
    yield home
    local(home, "down")


def env_of(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    own = {"TILEWRIGHT_HOME": str(home), "PREFECT_PROFILES_PATH": str(home / "none.toml")}
    return {**kept, **own, "PREFECT_WORKER_QUERY_SECONDS": "1"}


def local(home: Path, what: str) -> str:
    """Runs up or down; gives what it says."""
    command = [BIN / "python", "-m", "deployments.local", what]
    done = subprocess.run(
        command, cwd=ROOT, env=env_of(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def server_of(home: Path) -> PrefectServer:
    state = read_state(home)
    assert state is not None
    return PrefectServer(state.url, home, {**env_of(home), "PREFECT_API_URL": state.url})


def worker_of(home: Path) -> Worker:
    worker = read_worker(home)
    assert worker is not None
    return worker


def deployment(server: PrefectServer, name: str) -> str:
    by_name = {"name": {"any_": [name]}}
    (found,) = server.post("/deployments/filter", deployments=by_name)
    return str(found["id"])


def test_everything_that_carries_the_token_is_ended_and_nothing_else() -> None:
    """Also what outlives a worker that was killed."""
    mine, other = (
        subprocess.Popen(
            [sys.executable, "-c", SLEEP], env={**os.environ, TOKEN: token}, start_new_session=True
        )
        for token in ("mine", "other")
    )
    try:
        worker = Worker("mine", "http://127.0.0.1:1/api", Identity.of(mine.pid))
        (child,) = wait_for(worker.others)
        mine.kill()
        mine.wait()
        assert not worker.is_alive()
        end_processes(worker)
        assert not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE
        assert other.poll() is None
    finally:
        end_processes(Worker("other", "", Identity.of(other.pid)))
        other.wait()


@pytest.mark.slow
def test_down_cancels_a_training_with_a_backup_and_leaves_no_process(
    home: Path, tiny_models: TinyModels, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    project.prepare()
    assert "/deployments" in local(home, "up")
    server, worker = server_of(home), worker_of(home)
    long = ("train.epochs=100000", "train.schedule.warmup_steps=0")
    run = start_deployment(server, deployment(server, "train"), project.run_toml, *long)
    waiting = start_deployment(server, deployment(server, "train"), project.run_toml, *long)
    runs = project.folder / "store" / "runs"
    wait_for(lambda: list(runs.glob("*/events.jsonl")), 120)
    time.sleep(2)  # some steps

    again = local(home, "up")
    assert "worker: was running" in again and worker_of(home) == worker
    assert not list(runs.glob("*/backups/*"))
    supervisor = read_state(home)
    told = local(home, "down")
    assert "cancelling" in told and "worker: stopped" in told and "server: stopped" in told
    assert list(runs.glob("*/backups/*")), "it backs up first"
    assert not worker.is_alive() and not worker.others()
    assert supervisor is not None and not supervisor.is_ours()

    local(home, "up")
    server = server_of(home)
    assert state_of(server, run)["type"] == "CANCELLED"
    state = ended(server, waiting, "RUNNING")  # nobody cancelled it: it goes on when we do
    assert state["type"] == "RUNNING", state


@pytest.mark.slow
def test_a_run_crashes_when_its_process_and_its_worker_were_killed(
    home: Path, tiny_models: TinyModels, tmp_path: Path
) -> None:
    """Nobody is left to tell the server; its heartbeats stay away."""
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    project.prepare()
    local(home, "up")
    server, worker = server_of(home), worker_of(home)
    impatient = crash_silent_runs(90.0) | {"name": "does not wait as long as ours"}
    server.post("/automations/", **impatient)
    train = deployment(server, "train")
    run = start_deployment(server, train, project.run_toml, "train.epochs=100000")
    runs = project.folder / "store" / "runs"
    wait_for(lambda: list(runs.glob("*/events.jsonl")), 120)
    for process in [psutil.Process(worker.identity.pid), *worker.others()]:
        if "tasks.train" not in " ".join(process.cmdline()):  # trainers end with their parent
            process.kill()
    assert state_of(server, run)["type"] == "RUNNING"
    wait_for(lambda: not worker.others(), 30)
    wait_for(lambda: state_of(server, run)["type"] == "CRASHED", 180)
    assert "No heartbeat" in state_of(server, run)["message"]


@pytest.mark.slow
def test_up_replaces_a_killed_worker_and_a_stale_file(home: Path) -> None:
    stale = Worker("gone", "http://127.0.0.1:1/api", Identity(os.getpid(), 1.0))
    (home / "worker.json").write_text(
        '{"token": "gone", "url": "http://127.0.0.1:1/api", '
        f'"identity": {{"pid": {os.getpid()}, "created": 1.0}}}}'
    )
    assert read_worker(home) == stale
    assert "worker: started" in local(home, "up")
    first = worker_of(home)
    psutil.Process(first.identity.pid).kill()
    assert "worker: started" in local(home, "up")
    assert worker_of(home) != first and worker_of(home).is_alive()
    psutil.Process(worker_of(home).identity.pid).kill()
    assert "worker: stopped" in local(home, "down")
    assert "worker: none was running" in local(home, "down")
