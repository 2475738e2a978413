"""The automation that crashes silent flow runs, on a real server with short silences."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from flows import automations
from flows.automations import FLOW_NAMES, ZOMBIES, crash_silent_runs, ensure_automations
from tests.deployment_fixtures import state_of
from tests.server_fixtures import ROOT, PrefectServer, wait_for

SILENCE_SECONDS = 10.0
"""The shortest that Prefect takes."""


def found(server: PrefectServer) -> list[dict[str, Any]]:
    by_name = {"name": {"any_": [ZOMBIES]}}
    return list(server.post("/automations/filter", automations=by_name))


def running(server: PrefectServer, flow: str) -> str:
    """A flow run that is Running and has no process."""
    made = server.post("/flows/", name=flow)
    run = server.post("/flow_runs/", flow_id=made["id"], state={"type": "PENDING"})
    set_state(server, run["id"], "RUNNING", "Running")
    beat(server, run["id"], made["id"], flow)
    return str(run["id"])


def beat(server: PrefectServer, run: str, flow_id: str, flow: str) -> None:
    """The event that a flow run sends, as `prefect.flow_engine` makes it."""
    related = {"prefect.resource.id": f"prefect.flow.{flow_id}", "prefect.resource.role": "flow"}
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{**related, "prefect.resource.name": flow}],
    }
    server.post("/events", json_body=[event])


def set_state(server: PrefectServer, run: str, kind: str, name: str) -> None:
    state = {"type": kind, "name": name}
    if kind in ("SCHEDULED", "PAUSED"):
        state["state_details"] = {"pause_timeout": "2099-01-01T00:00:00Z"}
    done = server.post(f"/flow_runs/{run}/set_state", state=state, force=True)
    assert done["status"] == "ACCEPT", done


def test_the_flows_are_ours() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    stems = [Path(one["entrypoint"].partition(":")[0]).stem for one in deployments]
    assert sorted(stem.replace("_", "-") for stem in stems) == sorted(FLOW_NAMES)


def test_it_is_made_once_and_a_switch_of_a_person_stays(prefect_server: PrefectServer) -> None:
    ensure_automations(prefect_server.url)
    assert ensure_automations(prefect_server.url) is False
    (there,) = found(prefect_server)
    assert (there["enabled"], there["trigger"]["within"]) == (True, automations.SILENCE_SECONDS)
    prefect_server.patch(f"/automations/{there['id']}", enabled=False)
    try:
        assert ensure_automations(prefect_server.url) is False
        assert [one["enabled"] for one in found(prefect_server)] == [False]
    finally:
        prefect_server.patch(f"/automations/{there['id']}", enabled=True)


def test_a_silent_run_crashes_and_a_waiting_one_does_not(prefect_server: PrefectServer) -> None:
    wanted = crash_silent_runs(SILENCE_SECONDS) | {"name": "short"}
    automation = prefect_server.post("/automations/", **wanted)
    silent, foreign = running(prefect_server, "train-model"), running(prefect_server, "somebodys")
    waiting = {
        running(prefect_server, "run-pipeline"): ("PAUSED", "Suspended"),
        running(prefect_server, "prepare-dataset"): ("SCHEDULED", "AwaitingRetry"),
        running(prefect_server, "collect-garbage"): ("COMPLETED", "Completed"),
    }
    for run, (kind, name) in waiting.items():
        set_state(prefect_server, run, kind, name)
    late = running(prefect_server, "draw-samples")  # its silence begins after that of the others

    def crashed(run: str) -> bool:
        return bool(state_of(prefect_server, run)["type"] == "CRASHED")

    wait_for(lambda: crashed(silent), 60)
    assert "No heartbeat" in state_of(prefect_server, silent)["message"]
    wait_for(lambda: crashed(late), 60)
    assert state_of(prefect_server, foreign)["type"] == "RUNNING"
    names = {run: state_of(prefect_server, run)["name"] for run in waiting}
    assert names == {run: name for run, (_, name) in waiting.items()}
    prefect_server.delete(f"/automations/{automation['id']}")


def test_a_run_that_was_only_slow_can_still_complete(prefect_server: PrefectServer) -> None:
    """A machine that slept: its run goes on although the server took it for dead."""
    run = running(prefect_server, "train-model")
    set_state(prefect_server, run, "CRASHED", "Crashed")
    done = prefect_server.post(f"/flow_runs/{run}/set_state", state={"type": "COMPLETED"})
    assert done["status"] == "ACCEPT"
    assert state_of(prefect_server, run)["type"] == "COMPLETED"
