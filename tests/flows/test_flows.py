"""The commands that run flows, as processes against a real Prefect server.

One project goes through this file from top to bottom, because each command costs seconds of
imports: the module's fixtures run a command once, the tests look at what it left behind.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import Answer, PrefectServer

STAGES = ("scan", "prompts", "crops", "captions", "text", "latents")
COUNTS = ("wanted", "reused", "computed", "new", "changed", "removed", "rejected", "exact")
DATA_TASKS = {"scan", "prompts", "crops", "text", "latents", "dataset", "report"}
IDLE = {"captions": "Cached", "masks": "Cached"}
"""Stages that nothing in the test's configuration asks for."""
SETTINGS = """max_steps = 4
learning_rate = 1e-2
caption_dropout = 0.2
schedule = { kind = "cosine", warmup_steps = 1 }
sample = { prompts = ["a photo"], steps = 2 }"""
ROW_KEYS = (
    *("row_id", "sample_id", "source_id", "path", "concept", "kind", "scale", "rect", "resized"),
    *("bucket", "epoch", "variation", "prompts", "prompt_origin", "context", "loss_weight"),
    *("repeats", "latent", "text"),
)
"""What the contract names, in its order; later keys come behind."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    folder = tmp_path_factory.mktemp("flows") / "project"
    project = make_project(folder, tiny_models["sd15"], num_photos=2)
    project.run_toml.write_text(project.run_toml.read_text().replace("epochs = 1", SETTINGS))
    return project


class Command:
    """A `tilewright` command that was run, and what Prefect shows of it."""

    def __init__(self, server: PrefectServer, *arguments: str | Path) -> None:
        self.answer: Answer = server.tilewright(*arguments)
        self.summary: dict[str, Any] = self.answer.summary()
        self.states = server.task_states(server.newest_run())

    def computed(self) -> set[int]:
        return {stage["computed"] for stage in self.summary["stages"].values()}


@pytest.fixture(scope="module")
def first(prefect_server: PrefectServer, project: Project) -> Command:
    return Command(prefect_server, "run", project.run_toml, "--json")


@pytest.fixture(scope="module")
def second(prefect_server: PrefectServer, project: Project, first: Command) -> Command:
    return Command(prefect_server, "run", project.run_toml, "--json")


def test_a_run_ends_with_one_summary(first: Command, project: Project) -> None:
    summary = first.summary
    assert set(summary["dataset"]) == {"name", "version", "uri", "num_samples"}
    assert tuple(summary["stages"]) == STAGES
    for stage in summary["stages"].values():
        assert set(stage) == {*COUNTS, "reasons"}
    assert (summary["steps"], summary["resumed_from"]) == (4, None)
    assert len(summary["losses"]) == 4
    assert np.isfinite(summary["losses"]).all()
    for kind in ("outputs", "backups", "samples"):
        assert summary[kind], kind
        assert all(Path(uri).exists() for uri in summary[kind]), kind
    assert summary["outputs"][0] == str(project.folder / "out.safetensors")
    assert list(Path(summary["tensorboard"]).glob("events*"))
    assert {"run_id", "epochs", "seconds", "report"} <= set(summary)
    assert Path(summary["report"]).read_text().startswith("<!DOCTYPE html>")


def test_every_step_of_a_run_is_a_task(first: Command) -> None:
    made = {f"{stage} {step}" for stage in DATA_TASKS & {*STAGES} for step in ("1/1", "seal")}
    assert first.states == IDLE | dict.fromkeys({*DATA_TASKS, *made, "train"}, "Completed")


def test_a_command_ends_without_noise(first: Command) -> None:
    assert "Traceback" not in first.answer.stderr
    assert "rror" not in first.answer.stderr


def test_a_second_run_computes_nothing_and_is_shown_as_cached(
    first: Command, second: Command
) -> None:
    assert second.computed() == {0}
    assert second.states == dict.fromkeys({*DATA_TASKS, *IDLE, "train"}, "Cached")
    same = ("dataset", "run_id", "steps", "losses", "outputs", "backups", "samples")
    assert {key: second.summary[key] for key in same} == {key: first.summary[key] for key in same}


def test_a_new_learning_rate_only_trains(
    prefect_server: PrefectServer, project: Project, second: Command
) -> None:
    third = Command(
        prefect_server, "run", project.run_toml, "--set", "train.learning_rate=0.02", "--json"
    )
    assert third.computed() == {0}
    cached = dict.fromkeys({*DATA_TASKS, *IDLE}, "Cached")
    assert third.states == cached | {"train": "Completed"}
    assert third.summary["run_id"] != second.summary["run_id"]
    assert third.summary["dataset"] == second.summary["dataset"]
    assert third.summary["losses"] != second.summary["losses"]


def test_training_refuses_other_data_settings(
    prefect_server: PrefectServer, project: Project, first: Command
) -> None:
    before = prefect_server.newest_run()
    answer = prefect_server.tilewright("train", project.run_toml, "--set", "data.seed=8", "--json")
    assert answer.code == 2
    assert "data.seed" in answer.json["error"]
    assert "--dataset test@1" in answer.json["error"]
    assert prefect_server.newest_run() == before


def test_two_steps_and_two_more_are_four(
    prefect_server: PrefectServer, project: Project, first: Command
) -> None:
    half = Command(
        prefect_server, "train", project.run_toml, "--stop-after-steps", "2", "--json"
    ).summary
    assert (half["steps"], half["outputs"]) == (2, [])
    assert half["run_id"] != first.summary["run_id"]
    whole = Command(
        prefect_server, "train", project.run_toml, "--resume", half["run_id"], "--json"
    ).summary
    assert (whole["run_id"], whole["steps"]) == (half["run_id"], 4)
    assert whole["resumed_from"] == half["backups"][-1]
    assert whole["losses"] == first.summary["losses"]
    for name in ("denoiser.safetensors", "optimizer.safetensors"):
        assert_equal_tensors(
            Path(first.summary["backups"][-1]) / name, Path(whole["backups"][-1]) / name
        )


def assert_equal_tensors(one: Path, other: Path) -> None:
    left, right = load_file(one), load_file(other)
    assert left.keys() == right.keys()
    assert left
    for name, tensor in left.items():
        assert tensor.tobytes() == right[name].tobytes(), name


def test_the_lora_changes_what_a_stock_pipeline_draws(
    first: Command, tiny_models: TinyModels
) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_models["sd15"], safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> np.ndarray:
        settings = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "np"}
        noise = torch.Generator().manual_seed(0)
        return np.asarray(pipeline("a photo", generator=noise, **settings).images[0])

    before = draw()
    assert np.array_equal(before, draw())
    pipeline.load_lora_weights(first.summary["outputs"][0])
    after = draw()
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-3


def test_show_lists_every_sample(
    prefect_server: PrefectServer, project: Project, first: Command
) -> None:
    answer = prefect_server.tilewright("show", project.run_toml, "--jsonl")
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(rows) == first.summary["dataset"]["num_samples"]
    assert {tuple(row)[: len(ROW_KEYS)] for row in rows} == {ROW_KEYS}
    assert {row["kind"] for row in rows} == {"full", "detail"}
    store = Path(project.config().store.url)
    for row in rows:
        for item in (row["latent"], *row["text"]):
            size = (store / item["shard"]).stat().st_size
            assert item["offset"] + item["nbytes"] <= size


def test_sample_draws_with_a_run(prefect_server: PrefectServer, first: Command) -> None:
    folder = Path(first.summary["tensorboard"]).parent
    answer = prefect_server.tilewright("sample", folder, "--prompt", "a harbour", "--json")
    (image,) = answer.summary()["samples"]
    assert Image.open(image).size == (64, 64)
