import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flows.local_server import answers, configured_api_url, running_server, stop_server
from flows.server_files import (
    Identity,
    ServerState,
    live_clients,
    prepare_home,
    read_state,
    register_client,
    server_lock,
    write_state,
)

Process = subprocess.Popen[bytes]
ROOT = Path(__file__).parents[2]
CLIENT = "from flows.local_server import *; print(ensure_server(), flush=True); input()"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    prepare_home(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def sleeper() -> Iterator[Callable[..., Process]]:
    """Starts processes that do nothing; their arguments can be seen like those of a supervisor."""
    started = []

    def start(*arguments: str) -> Process:
        command = [sys.executable, "-c", "import time; time.sleep(60)", *arguments]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.05)


def test_two_commands_share_one_server_which_stops_when_both_are_gone(home: Path) -> None:
    foreign = {"PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILE"}
    env = {key: value for key, value in os.environ.items() if key not in foreign}
    env |= {"TILEWRIGHT_HOME": str(home), "TILEWRIGHT_SERVER_IDLE_SECONDS": "1.5"}
    env["PREFECT_PROFILES_PATH"] = str(home / "none.toml")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", CLIENT]
    first, second = (subprocess.Popen(command, env=env, cwd=ROOT, **pipes) for _ in range(2))
    url = first.stdout.readline().strip()
    assert second.stdout.readline().strip() == url
    state = read_state(home)
    assert state is not None and state.url == url and state.is_ours() and answers(url)
    assert live_clients(home) == sorted([first.pid, second.pid])

    first.kill()  # leaves its client file behind
    first.wait()
    time.sleep(2.5)
    assert answers(url), "the second command still uses the server"
    second.communicate("\n")
    wait_until(lambda: state.server.process() is None, 15)
    wait_until(lambda: state.supervisor.process() is None, 5)
    assert read_state(home) is None
    assert list((home / "clients").iterdir()) == []


def test_down_stops_exactly_what_is_ours(home: Path, sleeper: Callable[..., Process]) -> None:
    supervisor, server = sleeper("the-token"), sleeper()
    write_state(home, state_of(supervisor, server))
    done = run_down(home)
    assert json.loads(done.stdout) == {"stopped": True}
    assert supervisor.wait(5) == server.wait(5) == -signal.SIGTERM
    assert json.loads(run_down(home).stdout) == {"stopped": False}


def run_down(home: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "TILEWRIGHT_HOME": str(home)}
    command = [sys.executable, "-m", "flows", "down", "--json"]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)


def state_of(
    supervisor: "subprocess.Popen[bytes]", server: "subprocess.Popen[bytes]"
) -> ServerState:
    wait_until(lambda: len(psutil.Process(supervisor.pid).cmdline()) > 3, 5)
    identities = Identity.of(supervisor.pid), Identity.of(server.pid)
    return ServerState("the-token", 1, *identities)


def test_a_server_of_someone_else_is_never_adopted_or_stopped(
    home: Path, sleeper: Callable[..., Process]
) -> None:
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stranger = sleeper("other-token")
        known = Identity.of(stranger.pid)
        for identity in (known, Identity(stranger.pid, known.created - 100)):
            state = ServerState("the-token", server.server_address[1], identity, identity)
            write_state(home, state)
            assert answers(state.url)
            assert running_server(home) is None
        assert stop_server(home) is False
        assert stranger.poll() is None
        server.shutdown()


def test_a_damaged_state_file_is_no_server(home: Path) -> None:
    for text in ("", "{}", '{"token": 1, "port": "x", "supervisor": {}, "server": {}}'):
        (home / "server.json").write_text(text)
        assert running_server(home) is None


def test_clients_that_ended_are_forgotten(home: Path) -> None:
    mine = register_client(home)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (home / "clients" / str(ended.pid)).write_text("1.0")
    (home / "clients" / "1").write_text("1.0")  # alive, but another process than the one noted
    assert live_clients(home) == [os.getpid()]
    assert list((home / "clients").iterdir()) == [mine]


def test_the_lock_is_free_again_when_its_holder_is_killed(home: Path) -> None:
    code = (
        "from pathlib import Path; from flows.server_files import *; import sys, time\n"
        "with server_lock(Path(sys.argv[1]), 5): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(home)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(TimeoutError), server_lock(home, 0.2):
        pass
    holder.kill()
    holder.communicate()
    with server_lock(home, 0.2):
        pass


def test_the_configured_api_comes_first(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(
        'active = "work"\n[profiles.work]\nPREFECT_API_URL = "http://work/api"\n'
        '[profiles.local]\nPREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"\n'
    )
    here = {"PREFECT_HOME": str(tmp_path)}
    assert configured_api_url({**here, "PREFECT_API_URL": "http://env/api"}) == "http://env/api"
    assert configured_api_url(here) == "http://work/api"
    assert configured_api_url({**here, "PREFECT_PROFILE": "local"}) is None
    assert configured_api_url({"PREFECT_HOME": str(tmp_path / "none")}) is None
