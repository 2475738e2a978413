"""What an operator has: PostgreSQL, a Prefect server, a worker, a store on S3; asked by the API.

One story in the order of its tests: a run by the API, one by a schedule, one that is cancelled, one
whose worker and flow are killed and that is continued, one that waits for a person.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage.store import Store, open_store
from storage.versions import latest_version
from tests.caption_server import DIGEST, CaptionServer
from tests.deployment_fixtures import POOL, ended, start_worker
from tests.model_fixtures import TinyModels
from tests.postgres import binaries, running_postgres
from tests.projects import Project, make_project
from tests.server_fixtures import (
    BIN,
    ROOT,
    PrefectServer,
    running_server,
    wait_for,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed"),
]
SECRET = "a-key-that-must-stay-secret"
GRACE_SECONDS = 10
CANCEL_SECONDS = 30.0
ENDLESS = ("train.max_steps=1000000", "train.backup.every=5", "train.retries=0")
ENDLESS += (f"train.grace_seconds={GRACE_SECONDS}",)


@dataclass
class Operator:
    """The server, the deployments on it, its worker, and a project with its store on S3."""

    server: PrefectServer
    project: Project
    deployments: dict[str, str]
    worker: "subprocess.Popen[str]"
    runs: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return open_store(self.project.config().store.url)

    def start(self, deployment: str, *overrides: str, **fields: Any) -> str:
        """Creates a run as a filled form does."""
        form = {"config_file": str(self.project.run_toml), "overrides": "\n".join(overrides)}
        path = f"/deployments/{self.deployments[deployment]}/create_flow_run"
        run = str(self.server.post(path, parameters=form | fields)["id"])
        self.runs.append(run)
        return run

    def completed(self, run: str) -> dict[str, str]:
        """The states of the tasks of a run, which must have ended well."""
        state = ended(self.server, run)
        assert state["type"] == "COMPLETED", (state, self.worker_log())
        return self.server.task_states(run)

    def worker_log(self) -> str:
        return (self.server.home / "worker.log").read_text()[-6000:]

    def flows(self) -> list[psutil.Process]:
        """The processes of the flow runs that the worker has started."""
        below = psutil.Process(self.worker.pid).children(recursive=True)
        return [one for one in below if "prefect.engine" in " ".join(one.cmdline())]

    def workspace(self) -> Path:
        """The newest folder of a training."""
        return max((self.project.folder / "runs").iterdir(), key=lambda path: path.name)

    def training(self) -> Path:
        """The folder of the training that has just begun, once it has written a backup."""
        known = {*(self.project.folder / "runs").glob("*/backups/[0-9]*")}
        runs = self.project.folder / "runs"
        (backup, *_) = wait_for(lambda: [*({*runs.glob("*/backups/[0-9]*")} - known)], 120)
        return backup.parents[1]


@pytest.fixture(scope="module")
def operator(
    s3_server: str, tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> Iterator[Operator]:
    """Everything, set up as docs/operations.md says."""
    import boto3

    boto3.client("s3").create_bucket(Bucket="tilewright-operator")
    home = tmp_path_factory.mktemp("operator")
    project = make_project(home / "project", tiny_models["sd15"], num_photos=1)
    text = project.run_toml.read_text()
    url = "s3://tilewright-operator/store"
    project.run_toml.write_text(text.replace('url = "store"', f'url = "{url}"'))
    with running_postgres() as database:
        settings = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",
        }
        with running_server(home, **settings) as server:
            made = server.run(BIN / "python", "-m", "deployments.set_up", cwd=ROOT)
            assert made.code == 0, made.stdout + made.stderr
            worker = start_worker(server)
            give_secret(server)
            found = server.post("/deployments/filter")
            deployments = {one["name"]: one["id"] for one in found}
            operator = Operator(server, project, deployments, worker)
            yield operator
            operator.worker.kill()  # a worker that is asked to end waits for its runs
            operator.worker.wait()


def give_secret(server: PrefectServer) -> None:
    """The key of the store in a block, and a reference to it in the work pool."""
    save = "import sys; from prefect.blocks.system import Secret; "
    save += "Secret(value=sys.stdin.read()).save('tilewright-s3')"
    done = server.start(BIN / "python", "-c", save, stdin=subprocess.PIPE)
    done.communicate(SECRET, timeout=120)
    assert done.returncode == 0
    pool = f"/work_pools/{POOL}"
    template = wait_for(lambda: server.get(pool)["base_job_template"])  # a worker's first act
    reference = {"AWS_SECRET_ACCESS_KEY": "{{ prefect.blocks.secret.tilewright-s3 }}"}
    template["variables"]["properties"]["env"]["default"] = reference
    server.patch(pool, base_job_template=template)


def test_a_run_by_the_api(operator: Operator) -> None:
    run = operator.start("run", max_steps=2)
    states = operator.completed(run)
    assert {"scan", "crops", "latents", "dataset", "train"} <= {*states}
    assert states["train"] == "Completed"
    version = latest_version(operator.store, "test")
    assert version is not None and version.number == 1
    assert operator.store.list(f"runs/{operator.workspace().name}/output")
    again = operator.completed(operator.start("run", max_steps=2))
    assert {*again.values()} == {"Cached"}


def test_a_run_by_a_schedule(operator: Operator) -> None:
    """What nobody changed is Cached in the night."""
    deployment = operator.deployments["prepare"]
    begin = datetime.now(UTC) + timedelta(seconds=5)
    schedule = {
        "schedule": {"interval": 86400.0, "anchor_date": begin.isoformat(), "timezone": "UTC"},
        "active": True,
        "parameters": {"config_file": str(operator.project.run_toml)},
    }
    path = f"/deployments/{deployment}/schedules"
    (made,) = operator.server.post(path, json_body=[schedule])

    def scheduled() -> dict[str, Any] | None:
        runs = operator.server.post(
            "/flow_runs/filter", deployments={"id": {"any_": [deployment]}}, sort="START_TIME_ASC"
        )
        begun = [run for run in runs if run["auto_scheduled"] and run["start_time"]]
        return begun[0] if begun else None

    run = wait_for(scheduled, 90)
    assert {*operator.completed(run["id"]).values()} == {"Cached"}
    operator.server.delete(f"{path}/{made['id']}")


def test_a_cancel_ends_a_training_with_a_backup(operator: Operator) -> None:
    run = operator.start("train", *ENDLESS, "train.seed=2")
    workspace = operator.training()
    (flow,) = operator.flows()
    assert flow.environ()["AWS_SECRET_ACCESS_KEY"] == SECRET
    before = time.monotonic()
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    operator.server.post(f"/flow_runs/{run}/set_state", state=cancelling)
    assert ended(operator.server, run)["type"] == "CANCELLED"
    assert time.monotonic() - before < CANCEL_SECONDS, "promised in docs/operations.md"
    status = json.loads((workspace / "status.json").read_text())
    assert status["state"] == "interrupted"
    newest = max((workspace / "backups").glob("[0-9]*"))
    assert int(newest.name) == status["step"]
    assert operator.store.list(f"runs/{workspace.name}/backups/{newest.name}")
    assert not trainers(workspace)


def test_a_training_goes_on_after_a_kill_of_worker_and_flow(operator: Operator) -> None:
    run = operator.start("train", *ENDLESS, "train.seed=3")
    workspace = operator.training()
    (flow,) = operator.flows()
    os.kill(operator.worker.pid, signal.SIGKILL)
    flow.kill()
    operator.worker.wait()
    wait_for(lambda: not trainers(workspace), GRACE_SECONDS + 15)
    # Nobody is left to tell the server; a heartbeat that stays away does, and a person may.
    crashed = {"type": "CRASHED", "name": "Crashed"}
    operator.server.post(f"/flow_runs/{run}/set_state", state=crashed, force=True)
    reached = int(max((workspace / "backups").glob("[0-9]*")).name)
    shutil.rmtree(workspace)  # the machine is gone too: its backups are on S3
    operator.worker = start_worker(operator.server)
    again = operator.start(
        "train",
        *ENDLESS,
        "train.seed=3",
        resume=workspace.name,
        stop_after_steps=2,
    )
    states = operator.completed(again)
    assert states["train"] == "Completed"
    status = json.loads((workspace / "status.json").read_text())
    assert (status["state"], status["step"]) == ("stopped", reached + 2)


def test_a_run_waits_for_a_person(operator: Operator) -> None:
    crops = "concepts.0.image.detail_crops."
    with CaptionServer({"tiny:latest": DIGEST}, answer="a rusty hinge") as captioner:
        settings = {"enable_captioning": "true", "caption_probability": "1.0"}
        settings |= {"caption_model": "tiny", "caption_endpoint": captioner.url}
        lines = [f"{crops}{key}={value}" for key, value in settings.items()]
        run = operator.start("prepare", *lines, review_captions=True)
        assert ended(operator.server, run, "PAUSED")["name"] == "Suspended"
        operator.server.post(f"/flow_runs/{run}/resume", run_input={"note": "fine"})
        wait_for(lambda: operator.server.get(f"/flow_runs/{run}")["state"]["type"] == "RUNNING")
        operator.completed(run)
    version = latest_version(operator.store, "test")
    assert version is not None and version.number == 2


def test_no_secret_is_anywhere(operator: Operator) -> None:
    """Neither in what the server keeps, nor in logs, the store or the workspaces."""
    server = operator.server
    kept = [
        server.post(f"/{kind}/filter")
        for kind in ("flow_runs", "deployments", "artifacts", "work_pools", "task_runs")
    ]
    kept += [server.post("/logs/filter", offset=offset, limit=200) for offset in (0, 200, 400)]
    assert "a rusty hinge" in json.dumps(kept, ensure_ascii=False), "nothing was looked at"
    assert SECRET not in json.dumps(kept)
    folders = (server.home, operator.project.folder)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    store = operator.store
    assert not [path for path in store.list("") if SECRET.encode() in store.read_bytes(path)]


def trainers(workspace: Path) -> list[psutil.Process]:
    """The processes that train in a folder."""
    return [
        one for one in psutil.process_iter() if any(str(workspace) in part for part in _words(one))
    ]


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
