"""The flow that trains on a dataset version."""

from typing import Any

from prefect import flow

from storage.pins import pinned
from storage.store import open_store
from tasks.config.loading import load_config
from tasks.dataset.settings import choose_version
from tasks.train.task import train


@flow(name="train-model", persist_result=False)
def train_model(
    config_file: str,
    overrides: str = "",
    dataset: str | None = None,
    resume: str | None = None,
    new_data: bool = False,
    stop_after_steps: int | None = None,
) -> dict[str, Any]:
    """Train, or go on with a run that crashed.

    Args:
        config_file: The TOML file of the run.
        overrides: Lines of `a.b=c` that go over the file's settings.
        dataset: A dataset version as NAME@N; default: the latest one of the configuration.
        resume: The run_id of a run to go on with.
        new_data: With `resume`: go on although the dataset is another one now.
        stop_after_steps: Stop early, with a backup; schedules stay as they are.
    """
    config = load_config(config_file, overrides.splitlines())
    store = open_store(config.store.url, create=False)
    version = choose_version(store, config, dataset)
    with pinned(store, "train", version.name, version.number):
        return train(
            config, version, resume=resume, new_data=new_data, stop_after_steps=stop_after_steps
        )
