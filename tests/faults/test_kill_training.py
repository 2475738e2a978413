"""Kill -9 during training: no process is left, and the next start goes on from the last backup."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.deployment_fixtures import start_deployment
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import BIN, Answer, PrefectServer, wait_for

GRACE_SECONDS = 5
LAST_STEP = 100
SETTINGS = f"""max_steps = {LAST_STEP}
grace_seconds = {GRACE_SECONDS}
retries = 1
backup = {{ every = 5, keep = 2 }}"""


class Training:
    """`tilewright train` as a process, and what it tells in the folder of its run."""

    def __init__(self, server: PrefectServer, project: Project) -> None:
        self.folder = project.folder / "store" / "runs"
        self.process = server.start(
            *(BIN / "tilewright", "train", project.run_toml, "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.started_at = time.time()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of that name since this command was started."""
        found = []
        for file in self.folder.glob("*/events.jsonl"):
            lines = file.read_bytes().splitlines(keepends=True)
            found += [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [one for one in found if one["event"] == name and one["time"] >= self.started_at]

    def wait_for_event(self, name: str) -> dict[str, Any]:
        def seen() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            return self.events(name)

        return wait_for(seen)[-1]

    def wait(self) -> Answer:
        out, err = self.process.communicate(timeout=120)
        return Answer(self.process.returncode, out, err)


def running_in(folder: Path) -> list[psutil.Process]:
    """The launchers and ranks of the runs in a folder, whoever their parents are now."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or ())
        zombie = process.info["status"] == psutil.STATUS_ZOMBIE
        if "tasks.train." in command and str(folder) in command and not zombie:
            found.append(process)
    return found


@pytest.fixture
def own_worker(prefect_server: PrefectServer) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of this test, on a pool of its own, that may be killed."""
    pool = ("work-pool", "create", "doomed", "--type", "process")
    assert prefect_server.run(BIN / "prefect", *pool).code == 0
    with (prefect_server.home / "doomed.log").open("wb") as log:
        start = ("worker", "start", "--pool", "doomed", "--type", "process")
        process = prefect_server.start(BIN / "prefect", *start, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("training") / "project"
    project = make_project(folder, tiny_models["sd15"], num_photos=2)
    project.run_toml.write_text(project.run_toml.read_text().replace("epochs = 1", SETTINGS))
    project.prepare()
    yield project
    for process in psutil.process_iter(["cmdline"]):  # what a failed test left
        if str(folder) in " ".join(process.info["cmdline"] or ()):
            process.kill()


def test_killed_trainings_go_on(prefect_server: PrefectServer, project: Project) -> None:
    """One story, because each start costs seconds: the command is killed, then a rank."""
    first = Training(prefect_server, project)
    first.wait_for_event("backup")
    assert len(running_in(first.folder)) == 2, "a launcher and a rank"
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    wait_for(lambda: not running_in(first.folder), GRACE_SECONDS + 5)
    (run,) = first.folder.iterdir()
    left = max((run / "backups").glob("[0-9]*"))
    assert int(left.name) < LAST_STEP

    second = Training(prefect_server, project)
    started = second.wait_for_event("start")
    assert (started["step"], started["resumed_from"]) == (int(left.name), str(left))
    second.wait_for_event("backup")
    rank = json.loads((run / "status.json").read_text())["pid"]
    os.kill(rank, signal.SIGKILL)

    answer = second.wait()
    summary = answer.summary()
    assert (summary["run_id"], summary["steps"]) == (run.name, LAST_STEP)
    again = second.events("start")[-1]
    assert len(second.events("start")) == 2, "the retry of the Prefect task"
    assert summary["resumed_from"] == again["resumed_from"]
    assert int(left.name) < again["step"] < LAST_STEP
    assert not running_in(first.folder)
    states = prefect_server.task_states(prefect_server.newest_run())
    assert states == {"train": "Completed"}


def test_no_training_outlives_its_worker(
    prefect_server: PrefectServer,
    deployments: dict[str, dict[str, Any]],
    own_worker: subprocess.Popen[bytes],
    tmp_path: Path,
    tiny_models: TinyModels,
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    endless = SETTINGS.replace(f"max_steps = {LAST_STEP}", "max_steps = 1000000")
    project.run_toml.write_text(project.run_toml.read_text().replace("epochs = 1", endless))
    project.prepare()
    there = prefect_server.get(f"/deployments/{deployments['train']['id']}")
    same = {name: there[name] for name in ("flow_id", "entrypoint", "path", "pull_steps")}
    body = same | {"name": "doomed", "work_pool_name": "doomed"}
    reply = httpx.post(f"{prefect_server.url}/deployments/", json=body, trust_env=False)
    doomed = reply.raise_for_status().json()
    start_deployment(prefect_server, doomed["id"], project.run_toml)
    runs = project.folder / "store" / "runs"
    wait_for(lambda: list(runs.glob("*/backups/[0-9]*")), 90)
    own_worker.kill()
    own_worker.wait()
    wait_for(lambda: not running_in(runs), GRACE_SECONDS + 15)
    (run,) = runs.iterdir()
    status = json.loads((run / "status.json").read_text())
    newest = max((run / "backups").glob("[0-9]*"))
    assert status["state"] == "interrupted"
    assert int(newest.name) == status["step"]


@pytest.mark.slow
def test_a_training_whose_time_is_over_ends_with_a_backup_and_can_go_on(
    prefect_server: PrefectServer, tmp_path: Path, tiny_models: TinyModels
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    endless = SETTINGS.replace(f"max_steps = {LAST_STEP}", "max_steps = 1000000")
    project.run_toml.write_text(project.run_toml.read_text().replace("epochs = 1", endless))
    project.prepare()
    train = ("train", project.run_toml, "--set", "train.timeout_hours=0.008")
    ended = prefect_server.tilewright(*train)
    assert ended.code == 1, ended.stderr
    assert "train.timeout_hours = 0.008 is over" in ended.stderr
    (run,) = (project.folder / "store" / "runs").iterdir()
    status = json.loads((run / "status.json").read_text())
    newest = max((run / "backups").glob("[0-9]*"))
    assert (status["state"], status["step"]) == ("interrupted", int(newest.name))
    assert not running_in(run)
    again = prefect_server.tilewright(*train, "--stop-after-steps", "1", "--resume", run.name)
    assert again.code == 0, again.stderr
