"""Make everything on a Prefect server that Tilewright's deployments need; again changes nothing.

python -m deployments.set_up [--pool-type process|docker|kubernetes]

On the configured server, else on our own: the work pool, the limit of this machine's GPU, the
automations and the deployments of prefect.yaml. What a person changed in the UI stays, but for
what prefect.yaml itself says.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from flows.local_server import ServerError, ensure_server

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ROOT = Path(__file__).resolve().parents[1]
ROOT_IN_IMAGES = "/opt/tilewright"
POOL = "tilewright"
POOL_TYPES = ("process", "docker", "kubernetes")
TEMPLATES = Path(__file__).resolve().parent / "work_pools"


def set_up(pool_type: str = "process") -> Iterator[str]:
    """Does it on the server of this process; says what was made and what was there.

    Raises:
        RuntimeError: the deployments could not be made; holds what Prefect said.
    """
    from prefect.client.orchestration import get_client

    from deployments.notifications import ensure_notifications

    with get_client(sync_client=True) as client:
        yield _ensure_pool(client, pool_type)
        yield _ensure_gpu_limit()
        yield from ensure_notifications(client)
        before = dict(_schedules(client))
        yield _deploy(pool_type)
        for place, (deployment, schedule) in _schedules(client):
            if place not in before:
                client.update_deployment_schedule(deployment, schedule, active=False)
                yield f"schedule {place}: made, off"


def _ensure_pool(client: "SyncPrefectClient", pool_type: str) -> str:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    with contextlib.suppress(ObjectNotFound):
        there = client.read_work_pool(POOL)
        kind = "" if there.type == pool_type else f", of type {there.type}"
        return f"work pool {POOL}: was there{kind}"
    pool: dict[str, Any] = {"name": POOL, "type": pool_type}
    template = TEMPLATES / f"{pool_type}.json"
    if template.exists():  # processes need nothing but what Prefect gives them
        pool["base_job_template"] = json.loads(template.read_text(encoding="utf-8"))
    client.create_work_pool(WorkPoolCreate(**pool))
    return f"work pool {POOL}: made, of type {pool_type}"


def _ensure_gpu_limit() -> str:
    from tasks.gpu.task import limit_name, require_limit

    slots = require_limit()
    told = "made, with 1 slot" if slots is None else f"was there, with {slots} slots"
    return f"concurrency limit {limit_name()}: {told}"


def _schedules(client: "SyncPrefectClient") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """`deployment/slug` of every schedule of ours, and the ids of both."""
    for deployment in client.read_deployments():
        if deployment.work_pool_name == POOL or POOL in deployment.tags:  # `serve` has no pool
            for schedule in deployment.schedules:
                yield f"{deployment.name}/{schedule.slug}", (deployment.id, schedule.id)


def _deploy(pool_type: str) -> str:
    """Has Prefect make the deployments of prefect.yaml; they run in TILEWRIGHT_ROOT."""
    root = str(ROOT) if pool_type == "process" else ROOT_IN_IMAGES
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env={"TILEWRIGHT_ROOT": root, **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"prefect deploy --all failed:\n{done.stdout}{done.stderr}")
    return "deployments of prefect.yaml: up to date"


def main(arguments: list[str] | None = None) -> int:
    """Sets up and says what was made; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.set_up", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--pool-type", choices=POOL_TYPES, default="process")
    pool_type: str = parser.parse_args(arguments).pool_type
    try:
        url = ensure_server(_say)
        _say(f"server: {url}")
        for line in set_up(pool_type):
            _say(line)
    except (ServerError, RuntimeError) as error:
        _say(str(error))
        return 1
    except httpx.HTTPError as error:
        _say(f"{url}: {error}")
        _say("a server with a login needs PREFECT_API_AUTH_STRING=user:password")
        return 1
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
