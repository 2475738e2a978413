"""Events that automations can wait for; they stand in the event feed of the Prefect UI.

Inside a flow run Prefect relates an event to the run, its deployment and its tags by itself.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from prefect.context import FlowRunContext
from prefect.events import emit_event

from storage.naming import now_iso
from storage.quarantine import read_quarantine
from storage.store import open_store
from tasks.config.models import Config
from tasks.pipeline.task import Prepared

MODEL_FINISHED = "tilewright.model.finished"
DATASET_READY = "tilewright.dataset.ready"
QUARANTINE_GREW = "tilewright.quarantine.grew"


def began() -> str:
    """When this flow run began, also if it was suspended since; as `now_iso` tells times."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    if run is None or run.start_time is None:
        return now_iso()
    return run.start_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def announce_prepared(config: Config, prepared: Prepared, since: str) -> None:
    """Says what a preparation has brought: a new version, files that were never rejected before.

    Args:
        config: of the preparation.
        prepared: what it made.
        since: when it began, as `storage.naming.now_iso` tells it.
    """
    version = prepared.version
    if prepared.created:
        dataset_ready(version.name, version.number, version.num_samples)
    rejects = read_quarantine(open_store(config.store.url)).to_pylist()
    new = [one for one in rejects if one["stage"] != "captions" and one["first_seen"] >= since]
    if new:
        quarantine_grew(version.name, len(new), Counter(one["reason"] for one in new))


def announce_trained(trained: Mapping[str, Any]) -> None:
    """Says that there is a new model, where a training has ended with one.

    Args:
        trained: the object that `tilewright train --json` prints.
    """
    if trained["state"] == "done" and not trained["reused"]:
        names = ("run_id", "dataset", "steps", "epochs", "losses", "outputs", "seconds")
        model_finished(trained["run_id"], {name: trained[name] for name in names})


def model_finished(name: str, payload: Mapping[str, Any]) -> None:
    """Says that a training has ended with a model; the payload is the summary of the training."""
    _emit(MODEL_FINISHED, "model", name, payload)


def dataset_ready(name: str, version: int, num_samples: int) -> None:
    """Says that a dataset has a new version."""
    _emit(DATASET_READY, "dataset", name, {"version": version, "num_samples": num_samples})


def quarantine_grew(name: str, num_new: int, reasons: Mapping[str, int]) -> None:
    """Says that a run rejected files which the one before had not; `reasons` counts them."""
    _emit(QUARANTINE_GREW, "quarantine", name, {"num_new": num_new, "reasons": dict(reasons)})


def _emit(event: str, kind: str, name: str, payload: Mapping[str, Any]) -> None:
    resource = {"prefect.resource.id": f"tilewright.{kind}.{name}", "prefect.resource.name": name}
    emit_event(event, resource=resource, payload=dict(payload))
