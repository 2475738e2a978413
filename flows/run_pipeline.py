"""The flow that does everything: prepare the dataset, train on it, draw samples."""

import time
from typing import Any

from prefect import flow

from flows import form
from flows.events import announce_prepared, announce_trained, began
from flows.form import AS_CONFIGURED, NO_PRESET
from flows.preconditions import require_ready
from storage.pins import pinned
from storage.store import open_store
from tasks.pipeline.task import Unreviewed, plan_only, prepare, summary
from tasks.train.task import train


@flow(name="run-pipeline", persist_result=False)
def run_pipeline(
    config_file: form.ConfigFile = "",
    preset: form.Preset = NO_PRESET,
    photos: form.Photos = "",
    store: form.StorePlace = "",
    base_model: form.BaseModel = "",
    output: form.Output = "",
    dataset_name: form.DatasetName = "",
    resolution: form.Resolution = "",
    detail_crops: form.Tiles = AS_CONFIGURED,
    captioning: form.Captioning = AS_CONFIGURED,
    epochs: form.Epochs = None,
    max_steps: form.MaxSteps = None,
    batch_size: form.BatchSize = None,
    gradient_accumulation_steps: form.Accumulation = None,
    learning_rate: form.LearningRate = None,
    optimizer: form.OptimizerKind = AS_CONFIGURED,
    rank: form.Rank = None,
    overrides: form.Overrides = "",
    refresh: form.Refresh = [],  # noqa: B006 (a form shows literal defaults only)
    review_captions: form.ReviewCaptions = False,
    dry_run: form.DryRun = False,
) -> dict[str, Any]:
    """Only what is invalid runs again; the training too is Cached when nothing changed."""
    filled = locals()
    started = time.monotonic()
    config = form.configured(filled)
    require_ready(config, prepares=True, trains=True, dry_run=dry_run)
    if dry_run:
        return plan_only(config)
    prepared = prepare(config)
    if isinstance(prepared, Unreviewed):
        return summary(config, prepared, time.monotonic() - started)
    announce_prepared(config, prepared, began())
    told = summary(config, prepared, 0.0)
    version = prepared.version
    with pinned(open_store(config.store.url), "train", version.name, version.number):
        trained = train(config, version, reuse="any")
    announce_trained(trained)
    return told | trained | {"seconds": round(time.monotonic() - started, 3)}
