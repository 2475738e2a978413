"""`tilewright serve`: runs that the API creates, and what becomes of them when it ends."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.serving import entries
from tests.deployment_fixtures import ended, set_up, start_deployment, state_of
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import BIN, PrefectServer, running_server, wait_for


@pytest.fixture
def project(tmp_path: Path, tiny_models: TinyModels) -> Project:
    return make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server of this module's own: no worker takes the runs. set_up has been there before."""
    with running_server(tmp_path_factory.mktemp("prefect")) as server:
        set_up(server)
        yield server


@pytest.fixture
def serving(prefect_server: PrefectServer, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    log, before = tmp_path / "serve.log", updated(prefect_server)
    with log.open("w") as output:
        process = prefect_server.start(BIN / "tilewright", "serve", "--limit", "2", stderr=output)
    try:
        wait_for(lambda: process.poll() is not None or served(prefect_server, before), 60)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def updated(server: PrefectServer) -> dict[str, str]:
    """Name to time of the last change of each deployment."""
    return {one["name"]: one["updated"] for one in server.post("/deployments/filter")}


def served(server: PrefectServer, before: dict[str, str]) -> bool:
    """Whether all deployments of prefect.yaml were registered anew."""
    now = updated(server)
    names = [entry["name"] for entry in entries()]
    return all(name in now and now[name] != before.get(name) for name in names)


def id_of(server: PrefectServer, deployment: str) -> str:
    found = server.post("/deployments/filter", deployments={"name": {"any_": [deployment]}})
    return str(found[0]["id"])


@pytest.mark.slow
def test_runs_are_served_and_cancelled_with_a_backup_at_the_end(
    prefect_server: PrefectServer, serving: "subprocess.Popen[str]", project: Project
) -> None:
    by_name = {one["name"]: one for one in prefect_server.post("/deployments/filter")}
    for entry in entries():
        there = by_name[entry["name"]]
        for key in ("description", "tags", "parameters"):
            assert there[key] == entry[key], (entry["name"], key)
        assert {one["slug"]: one["active"] for one in there["schedules"]} == {
            schedule["slug"]: False for schedule in entry.get("schedules", ())
        }
    run = start_deployment(prefect_server, id_of(prefect_server, "prepare"), project.run_toml)
    state = ended(prefect_server, run)
    assert state["type"] == "COMPLETED", state

    train = id_of(prefect_server, "train")
    run = start_deployment(prefect_server, train, project.run_toml, "train.epochs=100000")
    runs = project.folder / "store" / "runs"
    wait_for(lambda: list(runs.glob("*/events.jsonl")), 120)
    time.sleep(2)  # some steps
    assert not list(runs.glob("*/backups/*"))
    serving.send_signal(signal.SIGINT)
    assert serving.wait(90) == 0
    assert list(runs.glob("*/backups/*")), "it backs up first"
    assert state_of(prefect_server, run)["type"] == "CANCELLED"


@pytest.mark.slow
def test_a_schedule_that_was_switched_on_stays_on(
    prefect_server: PrefectServer, serving: "subprocess.Popen[str]"
) -> None:
    found = {one["name"]: one for one in prefect_server.post("/deployments/filter")}
    schedule = found["run"]["schedules"][0]
    path = f"/deployments/{found['run']['id']}/schedules/{schedule['id']}"
    prefect_server.patch(path, active=True)
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(60) == 0
    before = updated(prefect_server)
    again = prefect_server.start(BIN / "tilewright", "serve")
    try:
        wait_for(lambda: served(prefect_server, before), 60)
        deployment = f"/deployments/{found['run']['id']}"
        assert prefect_server.get(deployment)["schedules"][0]["active"] is True
        prefect_server.patch(path, active=False)
    finally:
        again.send_signal(signal.SIGTERM)
        assert again.wait(60) == 0
