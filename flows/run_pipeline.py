"""The flow that does everything: prepare the dataset, train on it, draw samples."""

import time
from typing import Any

from prefect import flow

from storage.pins import pinned
from storage.store import open_store
from tasks.config.loading import load_config
from tasks.pipeline.task import Unreviewed, prepare, summary
from tasks.train.task import train


@flow(name="run-pipeline", persist_result=False)
def run_pipeline(config_file: str, overrides: str = "") -> dict[str, Any]:
    """Only what is invalid runs again; the training too is Cached when nothing changed.

    Args:
        config_file: The TOML file of the run.
        overrides: Lines of `a.b=c` that go over the file's settings.
    """
    started = time.monotonic()
    config = load_config(config_file, overrides.splitlines())
    prepared = prepare(config)
    if isinstance(prepared, Unreviewed):
        return summary(config, prepared, time.monotonic() - started)
    told = summary(config, prepared, 0.0)
    version = prepared.version
    with pinned(open_store(config.store.url), "train", version.name, version.number):
        trained = train(config, version, reuse="any")
    return told | trained | {"seconds": round(time.monotonic() - started, 3)}
