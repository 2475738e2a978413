"""Server, worker and UI on this machine, in the background.

python -m deployments.local up|down

`up` starts what does not run: Tilewright's own server (or it takes the configured one), what
set_up makes, and a worker. `down` cancels the worker's runs, which back up, and stops it all.
"""

import argparse
import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from deployments.background_worker import (
    Worker,
    end_processes,
    forget_worker,
    log_tail,
    read_worker,
    start_worker,
)
from deployments.set_up import POOL, set_up
from flows.local_server import (
    ServerError,
    answers,
    ensure_server,
    running_server,
    stop_server,
    use_server,
    users,
)
from flows.server_files import prepare_home, server_lock, tilewright_home

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

LOCK_SECONDS = 300.0
READY_SECONDS = 90.0
CANCEL_SECONDS = 180.0
"""A training that is cancelled writes a backup first."""


def up(home: Path) -> None:
    """Starts what does not run, and says where the UI is.

    Raises:
        ServerError: a worker runs for another server; it may be training.
    """
    url, worker = ensure_server(_say), read_worker(home)
    if worker is not None and worker.is_alive() and worker.url != url and answers(worker.url):
        told = "a worker runs for {}; end it first: python -m deployments.local down"
        raise ServerError(told.format(worker.url))
    for line in set_up():
        _say(line)
    if worker is not None and worker.is_alive():
        _say("worker: was running")
    else:
        if worker is not None:  # killed, or left behind by a server that is gone
            end_processes(worker)
            forget_worker(home, worker)
        worker = start_worker(home, url, POOL)
        _wait_until_online(home, worker)
        _say(f"worker: started; its log is {home / 'worker.log'}")
    _say(f"Prefect UI: {url.removesuffix('/api')}/deployments")


def down(home: Path) -> None:
    """Cancels the runs under way, and stops worker and server."""
    worker = read_worker(home)
    if worker is None:
        _say("worker: none was running")
    else:
        if worker.is_alive() and answers(worker.url):
            _point_at(home, worker.url)
            _cancel_runs(worker)
        end_processes(worker)
        forget_worker(home, worker)
        _say("worker: stopped")
    if busy := users(home):
        _say(f"server: stays, it is in use by the processes {', '.join(map(str, busy))}")
    else:
        _say("server: stopped" if stop_server(home) else "server: none of ours was running")


def _point_at(home: Path, url: str) -> None:
    """Points this process at the worker's server, which need not be the one configured now."""
    state = running_server(home)
    if state is not None and state.url == url:
        use_server(home, url)
    else:
        os.environ["PREFECT_API_URL"] = url


def _wait_until_online(home: Path, worker: Worker) -> None:
    from prefect.client.orchestration import get_client

    name, deadline = f"local-{socket.gethostname()}", time.monotonic() + READY_SECONDS
    started = time.time()
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline and worker.is_alive():
            seen = [one for one in client.read_workers_for_work_pool(POOL) if one.name == name]
            beats = [one.last_heartbeat_time for one in seen if one.last_heartbeat_time]
            if any(beat.timestamp() > started - 1 for beat in beats):
                return
            time.sleep(0.3)
    end_processes(worker)
    forget_worker(home, worker)
    raise ServerError(f"the worker did not start; the end of its log:\n{log_tail(home)}")


def _cancel_runs(worker: Worker) -> None:
    """Cancels the worker's runs as the UI would, and waits until their processes have ended."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State, StateType

    cancelled: set[str] = set()
    deadline = time.monotonic() + CANCEL_SECONDS
    with get_client(sync_client=True) as client, _paused_pool(client):
        while worker.others() and time.monotonic() < deadline and worker.is_alive():
            for run in worker.flow_runs() - cancelled:
                _say(f"cancelling the run {run}; a training writes a backup first")
                state = State(type=StateType.CANCELLING, name="Cancelling")
                client.set_flow_run_state(UUID(run), state)
                cancelled.add(run)
            time.sleep(0.3)


@contextlib.contextmanager
def _paused_pool(client: "SyncPrefectClient") -> Iterator[None]:
    """Keeps the worker from starting what waits, unless somebody has paused the pool already."""
    from prefect.client.schemas.actions import WorkPoolUpdate

    if client.read_work_pool(POOL).is_paused:
        yield
        return
    client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))
    try:
        yield
    finally:
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=False))


def main(arguments: list[str] | None = None) -> int:
    """Starts or stops everything; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.local", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("what", choices=("up", "down"))
    what: str = parser.parse_args(arguments).what
    home = tilewright_home()
    prepare_home(home)
    try:
        with server_lock(home, LOCK_SECONDS, "worker.lock"):
            up(home) if what == "up" else down(home)
    except (ServerError, RuntimeError, TimeoutError) as error:
        _say(str(error))
        return 1
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
