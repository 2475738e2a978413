from pathlib import Path
from threading import Event

import pytest

from storage.store import open_store
from tasks.train.child import train_rank
from tasks.train.spec import TrainSpec, write_spec
from tests.tasks.train.synthetic import make_config, make_dataset, make_spec


class Bench:
    """A tiny model, a dataset and a folder of runs; `train` runs one rank in this process."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.model = model
        self.store = open_store(str(folder / "store"))
        self.version = make_dataset(self.store)

    def spec(self, run_id: str = "run", **train) -> TrainSpec:
        config = make_config(self.model, self.store.url, **train)
        return make_spec(self.folder / "runs" / run_id, config, self.version)

    def train(self, spec: TrainSpec, stop: Event | None = None) -> str:
        write_spec(spec)
        return train_rank(spec, stop or Event())


@pytest.fixture
def bench(tmp_path, tiny_models) -> Bench:
    return Bench(tmp_path, tiny_models["sd15"])
