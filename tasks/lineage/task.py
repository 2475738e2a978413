"""Prefect assets: the events that say which dataset a model was made of.

Prefect's own server keeps them as events; its Cloud draws a graph of them. What counts is the
lineage that is kept with the run.
"""

import logging
import re
from pathlib import Path
from typing import Any

from prefect.assets import Asset
from prefect.events import emit_event

from storage.versions import Version

LOG = logging.getLogger("tilewright.train")
NOT_IN_KEYS = re.compile(r"[^\w./:@+~=,()!$*;-]")


def emit_model_asset(model: Path, version: Version, facts: dict[str, Any]) -> None:
    """Says that a model was made of a dataset; no training fails because it cannot be told.

    Args:
        model: where it is.
        version: of the dataset.
        facts: JSON to be kept with the event.
    """
    named, place = f"{version.name}@{version.number}", str(model.absolute())
    payload = {"path": place, **facts, "dataset": named, "dataset_digest": version.content_digest}
    try:
        made = Asset(key=asset_key(place))
        used = Asset(key=asset_key(version.uri.rpartition("/")[0]))  # all its versions are one
        told = {"prefect.resource.id": used.key, "prefect.resource.name": named}
        emit_event("prefect.asset.referenced", resource=told)
        emit_event(
            "prefect.asset.materialization.succeeded",
            resource={"prefect.resource.id": made.key, "prefect.resource.name": model.name},
            related=[{"prefect.resource.id": used.key, "prefect.resource.role": "asset"}],
            payload=payload,
        )
    except ValueError as error:
        LOG.warning("Prefect could not be told of the model as an asset: %s", error)


def asset_key(place: str) -> str:
    """A path or URL as the key of an asset, in which most punctuation is forbidden."""
    return NOT_IN_KEYS.sub("_", place if "://" in place else f"file://{place}")
