"""The Prefect server of the command line: the configured one, else one of our own.

Import nothing of Prefect before `ensure_server`: Prefect reads its settings when it is imported.
"""

import atexit
import contextlib
import os
import secrets
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from flows.automations import HEARTBEAT_SECONDS, ensure_automations
from flows.server_files import (
    ServerState,
    live_clients,
    prepare_home,
    read_state,
    register_client,
    remove_state,
    server_lock,
    tilewright_home,
)

START_SECONDS = 120.0
STOP_SECONDS = 15.0
LOG_TAIL_LINES = 15
MAX_LOG_BYTES = 4 * 2**20


class ServerError(RuntimeError):
    """Our own Prefect server could not be started."""


def ensure_server(say: Callable[[str], None] = lambda text: None) -> str:
    """Returns the address of a Prefect API and points this process at it.

    Uses PREFECT_API_URL, else that of the active Prefect profile, else our own server, which is
    started when it does not run and stays for the next command.

    Args:
        say: told what is going on when that takes time.

    Raises:
        ServerError: our own server did not start; holds the end of its log.
    """
    # As often as the automation expects that crashes silent runs; Prefect's default is 180 s.
    # Also for a server of others: its automation takes a run that is silent longer for dead.
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))
    configured = configured_api_url(os.environ)
    if configured:
        return configured
    home = tilewright_home()
    prepare_home(home)
    client = register_client(home)  # before the look-up, so that an idle server does not stop now
    atexit.register(client.unlink, missing_ok=True)
    try:
        with server_lock(home, START_SECONDS):
            state = running_server(home) or _start(home, say)
    except TimeoutError as error:
        raise ServerError(f"the Prefect server is not available: {error}") from None
    use_server(home, state.url)
    return state.url


def use_server(home: Path, url: str) -> None:
    """Points Prefect in this process and its children at our own server."""
    os.environ["PREFECT_API_URL"] = url
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    for name in ("NO_PROXY", "no_proxy"):  # a proxy would never find our loopback address
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))


def configured_api_url(env: Mapping[str, str]) -> str | None:
    """The API address that the user chose by PREFECT_API_URL or by the active Prefect profile."""
    if env.get("PREFECT_API_URL"):
        return env["PREFECT_API_URL"]
    prefect_home = Path(env.get("PREFECT_HOME") or "~/.prefect").expanduser()
    file = Path(env.get("PREFECT_PROFILES_PATH") or prefect_home / "profiles.toml")
    try:
        profiles = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = env.get("PREFECT_PROFILE") or profiles.get("active")
    url = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url) if url else None


def running_server(home: Path) -> ServerState | None:
    """Our own server if it runs and answers; never one that somebody else started."""
    state = read_state(home)
    if state is None or not state.is_ours():
        return None
    deadline = time.monotonic() + START_SECONDS
    while not answers(state.url):  # still starting: whoever started it was interrupted
        if time.monotonic() > deadline or not state.is_ours():
            return None
        time.sleep(0.2)
    return state


def answers(url: str) -> bool:
    """Whether a Prefect API answers at this address."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def stop_server(home: Path | None = None) -> bool:
    """Stops our own server; False when none was running."""
    home = home or tilewright_home()
    if not home.is_dir():
        return False
    prepare_home(home)
    with server_lock(home, START_SECONDS):
        return _end(home)


def users(home: Path | None = None) -> list[int]:
    """The pids of other commands that use our own server."""
    home = home or tilewright_home()
    if not (home / "clients").is_dir():
        return []
    return [pid for pid in live_clients(home) if pid != os.getpid()]


def _end(home: Path) -> bool:
    """Ends what the state file names, as far as it is ours."""
    state = read_state(home)
    if state is None:
        return False
    ours = [one for one in (state.supervisor, state.server) if one.process() is not None]
    for stop in (psutil.Process.terminate, psutil.Process.kill):
        deadline = time.monotonic() + STOP_SECONDS
        for identity in ours:
            with contextlib.suppress(psutil.Error):
                if process := identity.process():
                    stop(process)
        while any(identity.process() for identity in ours) and time.monotonic() < deadline:
            time.sleep(0.05)
    remove_state(home, state.token)
    return bool(ours)


def _start(home: Path, say: Callable[[str], None]) -> ServerState:
    """Starts the supervisor and waits until its server answers."""
    _end(home)  # what is left of a server whose supervisor was killed would hold the database
    say("starting Tilewright's Prefect server (it stays for the next command)")
    log = home / "server.log"
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    token = secrets.token_hex(8)
    with log.open("ab") as output:
        start = output.tell()
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "flows.server_supervisor", str(home), token],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,  # keeps no folder of the user busy
            env={**os.environ, "PYTHONPATH": import_path()},
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and supervisor.poll() is None:
        state = read_state(home)
        if state is not None and state.token == token and answers(state.url):
            with contextlib.suppress(OSError):  # runs are as good without
                ensure_automations(state.url)
            return state
        time.sleep(0.1)
    reason = (
        "ended" if supervisor.poll() is not None else f"gave no answer in {START_SECONDS:.0f} s"
    )
    supervisor.terminate()
    raise ServerError(f"the Prefect server {reason}; the end of {log}:\n{_tail(log, start)}")


def import_path() -> str:
    """PYTHONPATH under which the supervisor finds this package from any folder."""
    root = str(Path(__file__).parents[1])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _tail(log: Path, start: int) -> str:
    """The last lines that were written to the log since position `start`."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read()[-20_000:].decode("utf-8", "replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
