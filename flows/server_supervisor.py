"""The process that keeps our own Prefect server: starts it, watches it, stops it when idle.

Run by `flows.local_server` as `python -m flows.server_supervisor HOME TOKEN`, in a session of its
own, so that neither the end of a command nor Ctrl-C in its terminal reaches the server.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from flows.server_files import (
    Identity,
    ServerState,
    live_clients,
    remove_state,
    server_lock,
    write_state,
)

IDLE_SECONDS = 30 * 60.0
STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Keeps one server until it ends, idles too long or SIGTERM comes; returns the exit code."""
    home, token = Path(arguments[0]), arguments[1]
    idle_seconds = float(os.environ.get("TILEWRIGHT_SERVER_IDLE_SECONDS", IDLE_SECONDS))
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start"]
        + ["--host", "127.0.0.1", "--port", str(port)],
        env=server_env(os.environ, home, port),
        stdin=subprocess.DEVNULL,
        preexec_fn=end_with_parent,  # safe: this process has one thread
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    state = ServerState(token, port, Identity.of(os.getpid()), Identity.of(server.pid))
    write_state(home, state)
    try:
        return _watch(home, server, token, idle_seconds)
    finally:
        remove_state(home, token)
        _stop(server)


def server_env(env: Mapping[str, str], home: Path, port: int) -> dict[str, str]:
    """The server's environment: its own home, no telemetry, a UI that asks the right port."""
    foreign = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
    return {
        **{name: value for name, value in env.items() if name not in foreign},
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_UI_URL": f"http://127.0.0.1:{port}",  # of links in notifications
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(home: Path, server: "subprocess.Popen[bytes]", token: str, idle_seconds: float) -> int:
    """Returns when the server has ended by itself (its exit code) or was idle (0)."""
    last_used = time.monotonic()
    while server.poll() is None:
        time.sleep(min(1.0, idle_seconds / 4))
        if live_clients(home):
            last_used = time.monotonic()
        elif time.monotonic() - last_used > idle_seconds and _retire(home, token):
            return 0
    return server.returncode


def _retire(home: Path, token: str) -> bool:
    """Takes the server off the books unless a command has come in the meantime."""
    try:
        with server_lock(home, timeout=0):
            if live_clients(home):
                return False
            remove_state(home, token)
            return True
    except TimeoutError:  # a command is looking the server up at this moment
        return False


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def end_with_parent() -> None:
    """Makes the kernel end the server when the supervisor is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
