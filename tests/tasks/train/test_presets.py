"""Every preset trains two steps, with tiny weights and at 64 pixels."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from storage.store import open_store
from storage.versions import Version
from tasks.config import presets
from tasks.config.models import Config
from tasks.train.batches import step_batches
from tasks.train.checks import check_training
from tasks.train.loop import silent_hooks, train
from tasks.train.setup import prepare_run
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.tasks.train.synthetic import make_spec

SMALL = ("data.resolution='64'", "train.device=cpu", "train.base_weights=train_dtype")
"""8-bit weights need torchao, which is no part of the lock file."""


class Prepared:
    """Each family's photos are prepared once, as its LoRA preset says."""

    def __init__(self, folder: Path, models: TinyModels) -> None:
        self.folder = folder
        self.models = models
        self.done: dict[str, tuple[Project, Version]] = {}

    def config(self, preset: str, family: str) -> Config:
        return self._write(self.done[family][0], preset, family)

    def version(self, family: str) -> Version:
        if family not in self.done:
            project = make_project(
                self.folder / family, self.models[family], family=family, num_photos=2
            )
            self._write(project, f"{family}-lora", family)
            self.done[family] = project, project.prepare(*SMALL).version
        return self.done[family][1]

    def _write(self, project: Project, preset: str, family: str) -> Config:
        base = self.models[family]
        project.run_toml.write_text(
            f"extends = '{preset}'\n[store]\nurl = 'store'\n[model]\nbase = '{base}'\n"
            "[data]\nname = 'test'\n[[concepts]]\nname = 'photos'\npath = 'photos'\n"
        )
        return project.config(*SMALL)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("presets"), tiny_models)


@pytest.mark.parametrize("name", [name for name in presets.names() if name != "demo"])
def test_a_preset_trains_two_steps(name: str, prepared: Prepared, tmp_path: Path) -> None:
    family = name.split("-")[0]
    version = prepared.version(family)
    config = prepared.config(name, family)
    check_training(config)
    spec = make_spec(tmp_path / "run", config, version)
    run = prepare_run(spec, open_store(spec.store), torch.device("cpu"), rank=0)
    losses: list[float | None] = []
    hooks = replace(silent_hooks(lambda: False), on_step=lambda report: losses.append(report.loss))
    before = [parameter.detach().clone() for parameter in run.training.parameters]
    with run.source.reader, closing(step_batches(run.source, 0, 0)) as steps:
        assert train(run.training, steps, hooks, stop_at=2) == "stopped"
    assert len(losses) == 2
    changed = zip(before, run.training.parameters, strict=True)
    assert any(not torch.equal(one, other) for one, other in changed)
