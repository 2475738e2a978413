"""The flow that trains on a dataset version."""

from typing import Any

from prefect import flow

from flows import form
from flows.events import announce_trained
from flows.form import AS_CONFIGURED
from flows.preconditions import require_ready
from storage.pins import pinned
from storage.store import open_store
from tasks.dataset.settings import choose_version
from tasks.train.task import train


@flow(name="train-model", persist_result=False)
def train_model(
    config_file: form.ConfigFile = "",
    base_model: form.BaseModel = "",
    output: form.Output = "",
    epochs: form.Epochs = None,
    max_steps: form.MaxSteps = None,
    batch_size: form.BatchSize = None,
    gradient_accumulation_steps: form.Accumulation = None,
    learning_rate: form.LearningRate = None,
    optimizer: form.OptimizerKind = AS_CONFIGURED,
    rank: form.Rank = None,
    overrides: form.Overrides = "",
    dataset: form.DatasetVersion = "",
    resume: form.ResumedRun = "",
    new_data: form.NewData = False,
    stop_after_steps: form.StopAfterSteps = None,
) -> dict[str, Any]:
    """Train on the latest version of the dataset, or go on with a run that crashed."""
    filled = locals()
    config = form.configured(filled)
    require_ready(config, prepares=False, trains=True)
    store = open_store(config.store.url, create=False)
    version = choose_version(store, config, dataset or None)
    with pinned(store, "train", version.name, version.number):
        trained = train(
            config,
            version,
            resume=resume or None,
            new_data=new_data,
            stop_after_steps=stop_after_steps,
        )
    announce_trained(trained)
    return trained
