"""The flow that turns folders of images into a dataset version."""

import time
from typing import Any

from prefect import flow

from tasks.config.loading import load_config
from tasks.pipeline.task import prepare, summary


@flow(
    name="prepare-dataset",
    persist_result=False,
    validate_parameters=True,
)
def prepare_dataset(config_file: str, overrides: str = "") -> dict[str, Any]:
    """All data stages, then a dataset version if anything changed, and its tiles as files.

    Args:
        config_file: The TOML file of the run.
        overrides: Lines of `a.b=c` that go over the file's settings.
    """
    started = time.monotonic()
    config = load_config(config_file, overrides.splitlines())
    prepared = prepare(config)
    return summary(config, prepared, time.monotonic() - started)
