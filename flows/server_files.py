"""What our own Prefect server keeps on disk, and whether the processes named there are still ours.

<home>/server.json     the running server: processes, port, token
<home>/server.lock     held (flock) while a command starts, stops or looks up the server
<home>/server.log      its output
<home>/clients/<pid>   one file per command that uses it; the server stops when all are gone
<home>/prefect/        its PREFECT_HOME (the database)
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

CLOCK_SLACK = 2.0
"""Seconds that a process's reported start may move when the system clock is set."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """The identity of a running process."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CLOCK_SLACK
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


@dataclass(frozen=True, slots=True)
class ServerState:
    """The server as its supervisor wrote it down."""

    token: str
    port: int
    supervisor: Identity
    server: Identity

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://127.0.0.1:{self.port}/api"

    def is_ours(self) -> bool:
        """Whether both processes run and the supervisor was started with this token."""
        supervisor = self.supervisor.process()
        try:
            known = supervisor is not None and self.token in supervisor.cmdline()
        except psutil.Error:
            return False
        return known and self.server.process() is not None


def tilewright_home(env: Mapping[str, str] | None = None) -> Path:
    """The folder of Tilewright's own state: TILEWRIGHT_HOME, else `.tilewright` at home."""
    chosen = (os.environ if env is None else env).get("TILEWRIGHT_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".tilewright"


def prepare_home(home: Path) -> None:
    """Makes the folders, readable by the user alone."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / "clients").mkdir(exist_ok=True)
    (home / "prefect").mkdir(exist_ok=True)


def read_state(home: Path) -> ServerState | None:
    """The state file; None when there is none or it cannot be understood."""
    try:
        data = json.loads((home / "server.json").read_text())
        supervisor, server = Identity(**data["supervisor"]), Identity(**data["server"])
        return ServerState(str(data["token"]), int(data["port"]), supervisor, server)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_state(home: Path, state: ServerState) -> None:
    """Writes the state file in one step."""
    temporary = home / f"server.json.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(state)))
    temporary.replace(home / "server.json")


def remove_state(home: Path, token: str) -> None:
    """Removes the state file if it is still that of the server with this token."""
    state = read_state(home)
    if state is None or state.token == token:
        (home / "server.json").unlink(missing_ok=True)


@contextlib.contextmanager
def server_lock(home: Path, timeout: float, name: str = "server.lock") -> Iterator[None]:
    """Holds the lock of the server, or another; the kernel gives it back when a holder dies.

    Raises:
        TimeoutError: another command held it all the time.
    """
    deadline = time.monotonic() + timeout
    with (home / name).open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{home / name} is held by another command") from None
                time.sleep(0.1)
        yield


def register_client(home: Path) -> Path:
    """Says that this process uses the server; returns the file to delete at the end."""
    file = home / "clients" / str(os.getpid())
    file.write_text(str(Identity.of(os.getpid()).created))
    return file


def live_clients(home: Path) -> list[int]:
    """The pids of the commands that use the server; files of ended ones are removed."""
    alive = []
    for file in (home / "clients").iterdir():
        try:
            identity = Identity(int(file.name), float(file.read_text()))
        except FileNotFoundError:
            continue
        except ValueError:
            if time.time() - file.stat().st_mtime > 60:  # a moment ago it may just not be written
                file.unlink(missing_ok=True)
            continue
        if identity.process() is None:
            file.unlink(missing_ok=True)
        else:
            alive.append(identity.pid)
    return sorted(alive)
