"""The automation that notices dead flow runs, as the REST API of Prefect takes it.

A flow run whose process and worker were both killed would stay Running for ever. Imports nothing
of Prefect, so that the command line can make it beside our own server without a delay.
"""

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

HEARTBEAT_SECONDS = 30
SILENCE_SECONDS = 400.0
"""More than two beats at Prefect's own default of 180 s, which flows of the same name may have."""
FLOW_NAMES = (
    "collect-garbage",
    "draw-samples",
    "prepare-dataset",
    "run-pipeline",
    "train-model",
)
"""Only these send their heartbeats this often; those of other flows may come every 180 s."""
ZOMBIES = "tilewright: crash silent flow runs"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_SILENT_STATES = (
    *("Completed", "Failed", "TimedOut", "Cancelled", "Crashed"),
    *("Paused", "Suspended", "Scheduled", "Late", "Pending"),
    *("AwaitingRetry", "AwaitingConcurrencySlot", "Resuming"),
)
"""States without heartbeats. Cancelling is none: a run may be killed while it is cancelled."""


def crash_silent_runs(silence_seconds: float = SILENCE_SECONDS) -> dict[str, Any]:
    """The automation that makes flow runs of ours CRASHED when their heartbeats stay away."""
    return {
        "name": ZOMBIES,
        "description": f"A Tilewright flow run without a heartbeat for {silence_seconds:.0f} s.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "after": [_HEARTBEAT],
            "expect": [_HEARTBEAT, *(f"prefect.flow-run.{name}" for name in _SILENT_STATES)],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {
                "prefect.resource.role": "flow",
                "prefect.resource.name": list(FLOW_NAMES),
            },
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": silence_seconds,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "message": f"No heartbeat for {silence_seconds:.0f} s: its processes are gone.",
            }
        ],
    }


def ensure_automations(api_url: str, timeout_seconds: float = 20.0) -> bool:
    """Makes the automation on a server without a login; False when it was there.

    What a person changed or switched off stays as it is.

    Raises:
        OSError: the server did not do it.
    """
    wanted = crash_silent_runs()
    by_name = {"automations": {"name": {"any_": [wanted["name"]]}}}
    if _post(f"{api_url}/automations/filter", by_name, timeout_seconds):
        return False
    _post(f"{api_url}/automations/", wanted, timeout_seconds)
    return True


def _post(url: str, body: Mapping[str, Any], timeout_seconds: float) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=timeout_seconds) as reply:
        return json.loads(reply.read())
