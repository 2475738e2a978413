"""The flow that turns folders of images into a dataset version."""

import time
from typing import Any

from prefect import flow

from flows import form
from flows.events import announce_prepared, began
from flows.form import AS_CONFIGURED, NO_PRESET
from flows.preconditions import require_ready
from tasks.pipeline.task import Prepared, plan_only, prepare, summary


@flow(name="prepare-dataset", persist_result=False)
def prepare_dataset(
    config_file: form.ConfigFile = "",
    preset: form.Preset = NO_PRESET,
    photos: form.Photos = "",
    store: form.StorePlace = "",
    base_model: form.BaseModel = "",
    dataset_name: form.DatasetName = "",
    resolution: form.Resolution = "",
    detail_crops: form.Tiles = AS_CONFIGURED,
    captioning: form.Captioning = AS_CONFIGURED,
    overrides: form.Overrides = "",
    refresh: form.Refresh = [],  # noqa: B006 (a form shows literal defaults only)
    review_captions: form.ReviewCaptions = False,
    dry_run: form.DryRun = False,
) -> dict[str, Any]:
    """All data stages, then a dataset version if anything changed, and its tiles as files."""
    filled = locals()
    started = time.monotonic()
    config = form.configured(filled)
    require_ready(config, prepares=True, trains=False, dry_run=dry_run)
    if dry_run:
        return plan_only(config)
    prepared = prepare(config)
    if isinstance(prepared, Prepared):
        announce_prepared(config, prepared, began())
    return summary(config, prepared, time.monotonic() - started)
