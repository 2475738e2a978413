"""Captions of a real vision model reach training: the whole command, two servers, a real engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.reading import ItemReader, ItemRef
from storage.records import LOCATION
from storage.store import open_store
from storage.versions import latest_version, read_rows
from tests.model_fixtures import TinyModels
from tests.ollama.process import OllamaProcess, running
from tests.projects import Project, make_project
from tests.server_fixtures import PrefectServer

CROPS = "[concepts.image.detail_crops]\n"


@pytest.fixture(scope="module")
def second_server() -> Iterator[OllamaProcess]:
    """Another server with the same model."""
    with running(["tiny-vision"], parallel=2) as server:
        yield server


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_models: TinyModels,
    ollama_server: OllamaProcess,
    second_server: OllamaProcess,
) -> Project:
    folder = tmp_path_factory.mktemp("captions") / "project"
    project = make_project(folder, tiny_models["sd15"], num_photos=2)
    settings = (
        f"{CROPS}enable_captioning = true\ncaption_probability = 0.6\n"
        f'caption_model = "tiny-vision"\ncaption_max_retries = 1\n'
        f'caption_endpoint = ["{ollama_server.url}", "{second_server.url}"]\n'
    )
    text = project.run_toml.read_text().replace(CROPS, settings)
    project.run_toml.write_text(text.replace("epochs = 1", "max_steps = 3\nlearning_rate = 1e-3"))
    return project


@pytest.fixture(scope="module")
def captioned(
    prefect_server: PrefectServer,
    project: Project,
    ollama_server: OllamaProcess,
    second_server: OllamaProcess,
) -> dict[str, Any]:
    """A whole run."""
    for server in (ollama_server, second_server):
        server.forget()
    return prefect_server.tilewright("run", project.run_toml, "--json").summary()


@pytest.fixture(scope="module")
def answers(
    captioned: dict[str, Any], ollama_server: OllamaProcess, second_server: OllamaProcess
) -> list[list[str]]:
    """What each server answered to questions about a picture."""
    return [
        [one["answer"] for one in server.requests(path="/api/generate") if one["images"]]
        for server in (ollama_server, second_server)
    ]


def shown(server: PrefectServer, project: Project, *more: str) -> list[dict[str, Any]]:
    answer = server.tilewright("show", project.run_toml, "--jsonl", *more)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_two_servers_caption_every_chosen_tile(
    captioned: dict[str, Any], answers: list[list[str]]
) -> None:
    counts = captioned["stages"]["captions"]
    assert counts["computed"] == counts["wanted"] > 5
    assert counts["rejected"] == 0
    assert all(answers), "one of the servers was not asked"
    assert sum(map(len, answers)) == counts["wanted"]


def test_show_says_that_samples_train_on_what_the_model_said(
    prefect_server: PrefectServer,
    project: Project,
    captioned: dict[str, Any],
    answers: list[list[str]],
) -> None:
    rows = shown(prefect_server, project)
    generated = [row for row in rows if row["prompt_origin"] == "generated"]
    assert len(generated) == captioned["stages"]["captions"]["wanted"]
    said = {answer.strip() for some in answers for answer in some}
    assert {row["prompts"][0] for row in generated} <= said
    assert {row["kind"] for row in generated} == {"detail"}
    assert {row["prompt_origin"] for row in rows} == {"generated", "inherited", "sidecar"}
    assert all(row["context"].startswith("a photo") for row in generated)


def test_the_embedding_of_a_tile_is_that_of_its_caption(
    project: Project, captioned: dict[str, Any], tiny_models: TinyModels
) -> None:
    """Encoded anew by stock transformers, it is what training reads."""
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    store = open_store(project.config().store.url)
    version = latest_version(store, "test")
    assert version is not None
    rows = read_rows(store, version).to_pylist()
    row = next(row for row in rows if row["prompt_origin"] == "generated")
    (text,) = row["texts"]
    refs = [ItemRef(text["stage"], *(text[name] for name in LOCATION))]
    with ItemReader(store) as reader:
        (stored,) = reader.read_many(refs)
    tokenizer = CLIPTokenizer.from_pretrained(tiny_models["sd15"], subfolder="tokenizer")
    model = CLIPTextModel.from_pretrained(tiny_models["sd15"], subfolder="text_encoder")
    tokens = tokenizer(
        row["prompts"][0], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(tokens.input_ids)[0][0].numpy()
    ours = [tensor.numpy() for tensor in stored.values() if tensor.shape == expected.shape]
    assert any(np.allclose(one, expected, atol=1e-5) for one in ours)


def test_training_sees_other_embeddings_than_without_captions(
    prefect_server: PrefectServer, project: Project, captioned: dict[str, Any]
) -> None:
    off = "concepts.0.image.detail_crops.enable_captioning=false"
    plain = prefect_server.tilewright("run", project.run_toml, "--set", off, "--json").summary()
    assert plain["stages"]["latents"]["computed"] == 0
    assert plain["dataset"]["version"] == captioned["dataset"]["version"] + 1
    assert plain["losses"] != captioned["losses"]
    before = {row["row_id"]: row for row in shown(prefect_server, project, "--dataset", "test@1")}
    for row in shown(prefect_server, project, "--dataset", "test@2"):
        was = before[row["row_id"]]
        assert was["latent"] == row["latent"]
        assert (was["text"] != row["text"]) == (was["prompt_origin"] == "generated")


def test_a_second_run_asks_nobody_and_is_cached(
    prefect_server: PrefectServer,
    project: Project,
    captioned: dict[str, Any],
    ollama_server: OllamaProcess,
) -> None:
    ollama_server.forget()
    again = prefect_server.tilewright("run", project.run_toml, "--json").summary()
    assert {stage["computed"] for stage in again["stages"].values()} == {0}
    assert not ollama_server.requests(path="/api/generate")
    states = prefect_server.task_states(prefect_server.newest_run())
    assert states["captions"] == "Cached"


def test_the_model_is_unloaded_for_the_training(
    captioned: dict[str, Any], ollama_server: OllamaProcess
) -> None:
    import requests

    assert requests.get(f"{ollama_server.url}/api/ps", timeout=5).json()["models"] == []


def test_a_blind_model_is_refused_before_anything_starts(
    prefect_server: PrefectServer, project: Project, tmp_path: Path
) -> None:
    before = prefect_server.newest_run()
    crops = "concepts.0.image.detail_crops."
    answer = prefect_server.tilewright(
        *("prepare", project.run_toml, "--json", "--set", f"{crops}caption_model=tiny-text"),
        *("--set", f"{crops}caption_endpoint={_first_endpoint(project)}"),
    )
    assert answer.code == 2
    assert "takes no pictures" in answer.json["error"]
    assert prefect_server.newest_run() == before


def _first_endpoint(project: Project) -> str:
    return project.config().concepts[0].image.detail_crops.caption_endpoint[0]
