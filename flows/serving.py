"""The process that runs the deployments of prefect.yaml without a worker.

Run by `tilewright serve` as `python -m flows.serving [LIMIT]`, in a session of its own: Ctrl-C in
the terminal must not reach the runs, which end as cancelled, with a backup, when this process gets
SIGTERM.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

PREFECT_YAML = Path(__file__).resolve().parents[1] / "prefect.yaml"


def entries() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml."""
    loaded = yaml.safe_load(PREFECT_YAML.read_text(encoding="utf-8"))
    return list(loaded["deployments"])


def main(arguments: list[str]) -> int:
    """Serves until SIGTERM."""
    from prefect import serve

    limit = int(arguments[0]) if arguments else None
    # Paused deployments would stay paused for a worker that takes over.
    deployments = (_deployment(entry) for entry in entries())
    serve(*deployments, limit=limit, pause_on_shutdown=False, print_starting_message=False)
    return 0


def _deployment(entry: Mapping[str, Any]) -> Any:
    """A deployment as prefect.yaml has it; what is about work pools means nothing here."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import RunnerDeployment

    path, _, function = entry["entrypoint"].partition(":")
    settings = {name: entry[name] for name in ("name", "description", "tags", "parameters")}
    if "concurrency_limit" in entry:
        settings["concurrency_limit"] = ConcurrencyLimitConfig(**entry["concurrency_limit"])
    deployment = RunnerDeployment.from_entrypoint(
        f"{PREFECT_YAML.parent / path}:{function}", **settings
    )
    # Loaded as a module: a path would be looked up below the pull step of a deployment that set_up
    # has made on this server.
    deployment.entrypoint = f"{path.removesuffix('.py').replace('/', '.')}.{function}"
    switches = _switches(f"{deployment.flow_name}/{deployment.name}")
    deployment.schedules = list(_schedules(entry, switches))
    return deployment


def _switches(deployment: str) -> dict[str, bool]:
    """Which schedules of a deployment are on, by slug, as somebody may have set it in the UI."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            there = client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            return {}
    return {schedule.slug: schedule.active for schedule in there.schedules if schedule.slug}


def _schedules(entry: Mapping[str, Any], switches: Mapping[str, bool]) -> Iterator[Any]:
    """The schedules of an entry: as they are on the server, and off where they are new."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    for schedule in entry.get("schedules", ()):
        kinds = ("cron", "interval", "rrule", "timezone")
        when = {key: schedule[key] for key in kinds if key in schedule}
        yield DeploymentScheduleCreate.model_validate(
            {
                "schedule": when,
                "slug": schedule["slug"],
                "parameters": schedule.get("parameters", {}),
                "active": switches.get(schedule["slug"], False),
            }
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
