"""One real Prefect server for the whole session, and commands that run against it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from flows.server_supervisor import free_port, server_env

ROOT = Path(__file__).parents[1]
T = TypeVar("T")
BIN = Path(sys.executable).parent
START_SECONDS = 120.0
BUSY_ATTEMPTS = 6
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be exactly one JSON object on one line."""
        assert len(self.stdout.splitlines()) == 1, self.stdout or self.stderr
        answer = json.loads(self.stdout)
        assert isinstance(answer, dict)
        return answer

    def summary(self) -> dict[str, Any]:
        """The summary of a command that must have succeeded."""
        assert self.code == 0, self.stderr
        return self.json


@dataclass(frozen=True)
class PrefectServer:
    """The session's server. Flows run in processes of their own with `env`, never in this one."""

    url: str
    home: Path
    env: Mapping[str, str]

    def start(self, *command: str | Path, **options: Any) -> "subprocess.Popen[str]":
        """Starts a process that uses the server."""
        defaults = {"cwd": self.home, "env": {**os.environ, **self.env}, "text": True}
        return subprocess.Popen([*map(str, command)], **{**defaults, **options})

    def run(self, *command: str | Path, **options: Any) -> Answer:
        """Runs a process that uses the server to its end."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.start(*command, **pipes, **options)
        out, err = process.communicate(timeout=240)
        return Answer(process.returncode, out, err)

    def tilewright(self, *arguments: str | Path) -> Answer:
        """Runs the installed console script, far away from the repository root."""
        return self.run(BIN / "tilewright", *arguments)

    def post(self, path: str, *, json_body: Any = None, **body: Any) -> Any:
        """Calls the REST API, with the fields of an object or with any body."""
        return self._call("POST", path, json=body if json_body is None else json_body)

    def patch(self, path: str, **body: Any) -> Any:
        """Changes something through the REST API."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """Deletes something through the REST API."""
        self._call("DELETE", path)

    def get(self, path: str) -> Any:
        """Reads from the REST API."""
        return self._call("GET", path)

    def _call(self, method: str, path: str, **content: Any) -> Any:
        """Asks again while SQLite is busy, as Prefect's own client does."""
        for attempt in range(BUSY_ATTEMPTS):
            url = f"{self.url}{path}"
            reply = httpx.request(method, url, timeout=30, trust_env=False, **content)
            if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.2 * 2**attempt)
        assert reply.is_success, (reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def newest_run(self) -> str:
        """The id of the flow run that was created last."""
        (newest,) = self.post("/flow_runs/filter", sort="EXPECTED_START_TIME_DESC", limit=1)
        return str(newest["id"])

    def task_states(self, flow_run: str) -> dict[str, str]:
        """Task run name to state name, once the server has caught up with the run's events."""

        def finished() -> dict[str, str] | None:
            runs = self.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
            done = runs and all(run["state_type"] in TERMINAL for run in runs)
            return {run["name"]: run["state_name"] for run in runs} if done else None

        return settled(finished)


def wait_for(condition: Callable[[], T | None], seconds: float = 60.0) -> T:
    """What `condition` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def settled(condition: Callable[[], T | None], quiet_seconds: float = 1.0) -> T:
    """What `condition` gives when it has not changed for a while: events arrive late."""
    found = wait_for(condition)
    while True:
        time.sleep(quiet_seconds)
        if (now := wait_for(condition)) == found:
            return found
        found = now


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server on a free port with a home and a database of its own."""
    with running_server(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@contextmanager
def running_server(home: Path, **settings: str) -> Iterator[PrefectServer]:
    """A Prefect server with its home in a folder and such settings in its environment."""
    port = free_port()
    env = server_env(os.environ, home, port) | settings
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(url, process), START_SECONDS)
        yield PrefectServer(url, home, _client_env(url, home))
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "the Prefect server ended"
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _client_env(url: str, home: Path) -> dict[str, str]:
    return {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TILEWRIGHT_HOME": str(home / "tilewright"),
        "TILEWRIGHT_ROOT": str(ROOT),
    }
