"""What set_up makes on a real server, what it leaves alone, and that notifications arrive."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.set_up import ROOT_IN_IMAGES
from tasks.gpu.task import limit_name
from tests.deployment_fixtures import POOL, set_up
from tests.server_fixtures import BIN, ROOT, PrefectServer, running_server, wait_for

AUTOMATIONS = sorted((ROOT / "deployments" / "automations").glob("*.yaml"))
NAMES = ["tilewright: crash silent flow runs"] + [
    yaml.safe_load(file.read_text(encoding="utf-8"))["name"] for file in AUTOMATIONS
]


def schedules(server: PrefectServer) -> dict[str, dict[str, Any]]:
    """`deployment/slug` to schedule."""
    return {
        f"{deployment['name']}/{schedule['slug']}": {**schedule, "of": deployment["id"]}
        for deployment in server.post("/deployments/filter")
        for schedule in deployment["schedules"]
    }


def switch(server: PrefectServer, schedule: str, *, active: bool) -> None:
    """Switches a schedule on or off, as the UI does."""
    there = schedules(server)[schedule]
    server.patch(f"/deployments/{there['of']}/schedules/{there['id']}", active=active)


def on(server: PrefectServer) -> dict[str, bool]:
    return {name: one["active"] for name, one in schedules(server).items()}


def automations(server: PrefectServer) -> dict[str, dict[str, Any]]:
    found = server.post("/automations/filter", automations={"name": {"any_": NAMES}})
    assert len(found) == len({one["name"] for one in found})
    return {one["name"]: one for one in found}


class Inbox:
    """A web server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                inbox.received.append(json.loads(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?token=hush"

    def texts(self, part: str) -> list[str]:
        return [one["text"] for one in self.received if part in one["text"]]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_again_changes_nothing_and_what_a_person_set_stays(
    prefect_server: PrefectServer, deployments: dict[str, dict[str, Any]]
) -> None:
    assert on(prefect_server) == {"run/nightly": False, "collect-garbage/weekly": False}
    assert sorted(automations(prefect_server)) == sorted(NAMES)
    limits = prefect_server.post("/v2/concurrency_limits/filter")
    assert [one["limit"] for one in limits if one["name"] == limit_name()] == [1]

    prefect_server.patch(f"/v2/concurrency_limits/{limit_name()}", limit=2)
    prefect_server.patch(f"/work_pools/{POOL}", description="ours", concurrency_limit=7)
    switch(prefect_server, "run/nightly", active=True)
    switch(prefect_server, "collect-garbage/weekly", active=True)
    switch(prefect_server, "collect-garbage/weekly", active=False)
    told = set_up(prefect_server)
    assert ": made" not in told
    assert f"{limit_name()}: was there, with 2 slots" in told
    pool = prefect_server.get(f"/work_pools/{POOL}")
    assert (pool["description"], pool["concurrency_limit"]) == ("ours", 7)
    assert on(prefect_server) == {"run/nightly": True, "collect-garbage/weekly": False}

    switch(prefect_server, "run/nightly", active=False)
    prefect_server.patch(f"/v2/concurrency_limits/{limit_name()}", limit=1)
    prefect_server.patch(f"/work_pools/{POOL}", concurrency_limit=None)


def test_prefect_takes_every_automation_from_its_file(prefect_server: PrefectServer) -> None:
    for file in AUTOMATIONS:
        done = prefect_server.run(BIN / "prefect", "automation", "create", "--from-file", file)
        assert done.code == 0, done.stdout + done.stderr
        name = yaml.safe_load(file.read_text(encoding="utf-8"))["name"]
        newest, *_ = prefect_server.post(
            "/automations/filter",
            automations={"name": {"any_": [name]}},
            sort="CREATED_DESC",
        )
        assert newest["enabled"] is False
        prefect_server.delete(f"/automations/{newest['id']}")


def test_notifications_reach_a_web_server(
    prefect_server: PrefectServer, deployments: dict[str, dict[str, Any]], inbox: Inbox
) -> None:
    """From an event in a process of ours to the request at the address."""
    told = set_up(prefect_server, TILEWRIGHT_NOTIFY_URL=inbox.url)
    assert "hush" not in told
    assert all(one["enabled"] for one in automations(prefect_server).values())
    prefect_server.run(*_python("model_finished('harbour', {'run_id': 'r1', 'steps': 40})"))
    prefect_server.run(*_python("quarantine_grew('harbour', 2, {'truncated': 2})"))
    (model,) = wait_for(lambda: inbox.texts("harbour is finished"), 60)
    assert json.loads(model.partition("\n")[2]) == {"run_id": "r1", "steps": 40}
    (rejected,) = wait_for(lambda: inbox.texts("2 more files of harbour"), 60)
    assert "truncated" in rejected

    path = f"/deployments/{deployments['prepare']['id']}/create_flow_run"
    run = prefect_server.post(path, parameters={"config_file": "none.toml"}, name="sad-run")
    failed = {"type": "FAILED", "message": "no such file: none.toml"}
    prefect_server.post(f"/flow_runs/{run['id']}/set_state", state=failed, force=True)
    (text,) = wait_for(lambda: inbox.texts("no such file: none.toml"), 60)
    assert "prepare-dataset Failed" in text and "sad-run" in text and run["id"] in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_new_server_with_a_login_and_a_pool_for_containers(tmp_path: Path, kind: str) -> None:
    """All of it on a server that has nothing, as the service set-up of compose.yaml does."""
    login = "tilewright:secret"
    with running_server(tmp_path, PREFECT_SERVER_API_AUTH_STRING=login) as server:
        env = {"PREFECT_API_AUTH_STRING": login, "TILEWRIGHT_ROOT": ROOT_IN_IMAGES}
        refused = server.run(BIN / "python", "-m", "deployments.set_up", cwd=ROOT)
        assert refused.code == 1 and "PREFECT_API_AUTH_STRING" in refused.stderr
        told = set_up(server, "--pool-type", kind, **env)
        assert f"made, of type {kind}" in told and told.count(": made, off") == 5
        inspected = server.run(
            *(BIN / "prefect", "deployment", "inspect", "run-pipeline/run", "--output", "json"),
            env={**os.environ, **server.env, **env},
        )
        deployment = json.loads(inspected.stdout)
        assert deployment["work_pool_name"] == POOL
        assert ROOT_IN_IMAGES in json.dumps(deployment["pull_steps"])


def _python(call: str) -> tuple[str | Path, ...]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from flows.events import *; {call}"
    return BIN / "python", "-c", code
