"""What Prefect shows of a training: its loss, samples and files, and a report that may fail."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import PrefectServer

KEYS = ("train-loss", "train-samples", "train-files")
PREPARED = ("scan", "buckets", "crops", "stages", "report", "run-report")
SETTINGS = """
max_steps = 6
backup = { every = 2, unit = "step" }
sample = { every = 2, unit = "step", steps = 1, prompts = ["a harbour", "a pier"] }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    folder = tmp_path_factory.mktemp("artifacts") / "project"
    project = make_project(folder, tiny_models["sd15"], num_photos=2)
    project.run_toml.write_text(project.run_toml.read_text().replace("epochs = 1", SETTINGS))
    project.prepare()
    return project


def artifacts(server: PrefectServer, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """All artifacts of a run by key, the oldest first."""
    wanted = {"key": {"any_": list(KEYS)}}
    found = server.post("/artifacts/filter", artifacts=wanted, sort="ID_DESC", limit=200)
    mine = [one for one in found if one["description"].startswith(f"{run_id}: ")]
    mine.sort(key=lambda one: one["created"])
    return {key: [one for one in mine if one["key"] == key] for key in KEYS}


def test_a_training_is_shown_once_per_call_and_a_failing_report_ends_nothing(
    prefect_server: PrefectServer, project: Project
) -> None:
    train = ("train", project.run_toml, "--json")
    first = prefect_server.tilewright(*train, "--stop-after-steps", "3").summary()
    run_id, page = first["run_id"], Path(first["run_report"])
    assert page == project.folder / "store" / "runs" / run_id / "report.html"
    assert "<h2>Samples</h2>" in page.read_text()
    shown = artifacts(prefect_server, run_id)
    assert {key: len(found) for key, found in shown.items()} == dict.fromkeys(KEYS, 1)
    assert {one["description"] for (one,) in shown.values()} == {f"{run_id}: step 3"}
    assert all(one["task_run_id"] for (one,) in shown.values())
    _check_contents(*(found[0]["data"] for found in shown.values()))

    # Nothing can be written where the report belongs.
    page.unlink()
    page.mkdir()
    done = prefect_server.tilewright(*train, "--resume", run_id)
    second = done.summary()
    assert second["state"] == "done"
    assert "run_report" not in second
    assert "the report of the run could not be shown" in done.stderr
    shown = artifacts(prefect_server, run_id)
    assert {key: len(found) for key, found in shown.items()} == dict.fromkeys(KEYS, 2)
    newest = shown["train-loss"][-1]
    assert newest["description"] == f"{run_id}: step 6"
    assert "**6 steps** of 6" in newest["data"]


def _check_contents(loss: str, samples: str, files: str) -> None:
    assert "**3 steps** of 6" in loss
    assert "![Loss](data:image/svg+xml;base64," in loss
    pictures = re.findall(r"data:image/webp;base64,([^)]+)", samples)
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data in pictures]
    assert sizes == [(64, 64)] * 2
    assert "a pier" in samples
    rows = json.loads(files)
    assert [(row["what"], row["step"]) for row in rows] == [("backup", 3), ("backup", 2)]
    assert all(Path(row["path"]).is_dir() for row in rows)


def test_each_preparation_is_an_entry_in_the_history_of_its_artifacts(
    prefect_server: PrefectServer, tmp_path: Path, tiny_models: TinyModels
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    for number in (1, 2):
        prefect_server.tilewright("prepare", project.run_toml, "--json").summary()
        run = prefect_server.newest_run()
        wanted = {"flow_run_id": {"any_": [run]}}
        found = prefect_server.post("/artifacts/filter", artifacts=wanted)
        shown = {one["key"]: one["data"] for one in found if one["type"] != "progress"}
        assert {*shown} == {*PREPARED}, number
        assert "```mermaid" in shown["run-report"]
        assert "data:image/jpeg" in shown["run-report"]
        state = "cached" if number == 2 else "worked"
        assert f":::{state}" in shown["run-report"]
        (scan,) = json.loads(shown["scan"])
        assert scan["images"] == 2
