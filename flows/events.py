"""Events that automations can wait for; they stand in the event feed of the Prefect UI.

Inside a flow run Prefect relates an event to the run, its deployment and its tags by itself.
"""

from collections.abc import Mapping
from typing import Any

from prefect.events import emit_event

MODEL_FINISHED = "tilewright.model.finished"
DATASET_READY = "tilewright.dataset.ready"
QUARANTINE_GREW = "tilewright.quarantine.grew"


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
