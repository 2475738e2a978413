"""The deployments of prefect.yaml on the session's server, and a worker that runs them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server_fixtures import BIN, ROOT, TERMINAL, PrefectServer, wait_for

POOL = "tilewright"


@pytest.fixture(scope="session")
def deployments(prefect_server: PrefectServer) -> dict[str, dict[str, Any]]:
    """Everything in prefect.yaml, deployed; by name."""
    set_up(prefect_server)
    return {found["name"]: found for found in prefect_server.post("/deployments/filter")}


def set_up(server: PrefectServer, *options: str, **env: str) -> str:
    """Runs `deployments.set_up`; gives what it says."""
    command = (BIN / "python", "-m", "deployments.set_up", *options)
    done = server.run(*command, cwd=ROOT, env={**os.environ, **server.env, **env})
    assert done.code == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="session")
def worker(prefect_server: PrefectServer) -> Iterator[None]:
    """A process worker that looks for work every second."""
    process = start_worker(prefect_server)
    yield
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:  # it waits for a run that a failed test has left
        process.kill()
        process.wait()


def start_worker(server: PrefectServer) -> "subprocess.Popen[str]":
    """A process worker on the pool of prefect.yaml."""
    with (server.home / "worker.log").open("ab") as log:
        return server.start(
            *(BIN / "prefect", "worker", "start", "--pool", POOL, "--type", "process"),
            stdout=log,
            stderr=log,
        )


def start_deployment(server: PrefectServer, deployment: str, config: Path, *overrides: str) -> str:
    """Creates a run through the API, and gives its id."""
    parameters = {"config_file": str(config), "overrides": "\n".join(overrides)}
    path = f"/deployments/{deployment}/create_flow_run"
    return str(server.post(path, parameters=parameters)["id"])


def state_of(server: PrefectServer, run: str) -> dict[str, Any]:
    """The state of a flow run, as the server has it now."""
    return dict(server.get(f"/flow_runs/{run}")["state"])


def ended(server: PrefectServer, run: str, *others: str) -> dict[str, Any]:
    """The state in which a flow run ends, or that is of one of the other types."""
    wanted = {*TERMINAL, *others}

    def found() -> dict[str, Any] | None:
        state = state_of(server, run)
        return state if state["type"] in wanted else None

    return wait_for(found, 120)
