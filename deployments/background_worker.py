"""A Prefect worker in the background: its state on disk and its processes.

<home>/worker.json   the worker: process, server, token
<home>/worker.log    what it and its runs print

Every process of the worker has the token in its environment, so that those that outlive a killed
worker are found, and nothing else is taken for them.
"""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows.server_files import Identity

TOKEN = "TILEWRIGHT_WORKER_TOKEN"
STOP_SECONDS = 60.0
"""A training that is asked to end writes a backup first (`train.grace_seconds`)."""
MAX_LOG_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it was started."""

    token: str
    url: str
    identity: Identity

    def is_alive(self) -> bool:
        """Whether the worker itself runs."""
        return self.identity.process() is not None

    def flow_runs(self) -> set[str]:
        """The ids of the flow runs that its processes execute."""
        found = set()
        for process in self.others():
            with contextlib.suppress(psutil.Error, OSError):
                found.add(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
        return found - {""}

    def others(self) -> list[psutil.Process]:
        """The processes that it started, or those started, and that still run."""
        return [one for one in _processes(self.token) if one.pid != self.identity.pid]


def read_worker(home: Path) -> Worker | None:
    """The worker of the state file, alive or not; None when there is none."""
    try:
        data = json.loads((home / "worker.json").read_text())
        return Worker(str(data["token"]), str(data["url"]), Identity(**data["identity"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def start_worker(home: Path, url: str, pool: str) -> Worker:
    """Starts a worker that outlives this process, on the server of this process."""
    token, log = secrets.token_hex(8), home / "worker.log"
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process"]
    command += ["--pool", pool, "--name", f"local-{socket.gethostname()}"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,  # keeps no folder of the user busy
            env={**os.environ, TOKEN: token},
            start_new_session=True,
        )
    worker = Worker(token, url, Identity.of(process.pid))
    temporary = home / f"worker.json.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(worker)))
    temporary.replace(home / "worker.json")
    # The server stops when nobody uses it: the worker does, until it ends.
    (home / "clients" / str(process.pid)).write_text(str(worker.identity.created))
    return worker


def end_processes(worker: Worker) -> None:
    """Ends the worker and all that it started: SIGTERM, and after a while SIGKILL."""
    signals: tuple[Callable[[psutil.Process], None], ...]
    signals = (psutil.Process.terminate, psutil.Process.kill)
    for stop in signals:
        deadline = time.monotonic() + STOP_SECONDS
        for process in _processes(worker.token):
            with contextlib.suppress(psutil.Error):
                stop(process)
        while _processes(worker.token) and time.monotonic() < deadline:
            time.sleep(0.1)


def forget_worker(home: Path, worker: Worker) -> None:
    """Removes what `start_worker` noted down."""
    (home / "worker.json").unlink(missing_ok=True)
    (home / "clients" / str(worker.identity.pid)).unlink(missing_ok=True)


def log_tail(home: Path, num_lines: int = 15) -> str:
    """The last lines of the worker's log."""
    lines = (home / "worker.log").read_text(errors="replace").splitlines()[-num_lines:]
    return "\n".join(f"  | {line}" for line in lines)


def _processes(token: str) -> list[psutil.Process]:
    """The running processes with this token in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if not ended and process.environ().get(TOKEN) == token:
                found.append(process)
    return found
