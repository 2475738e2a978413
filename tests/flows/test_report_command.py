"""`tilewright report`: that of a dataset version or of a run; found or made, printed, opened."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.dataset_report import find_report, local_copy
from flows.run_report import find_run_report
from storage.store import open_store
from storage.versions import Version
from tasks.config.loading import ConfigError
from tasks.pipeline.report import report_path
from tests.model_fixtures import TinyModels
from tests.projects import Prepared, Project, make_project

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> tuple[Project, Prepared]:
    project = make_project(tmp_path_factory.mktemp("report") / "project", tiny_models["sd15"])
    return project, project.prepare()


def tilewright(
    *arguments: str | Path, env: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "flows", *map(str, arguments)]
    everything = {**os.environ, **env}
    return subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True)


def page(version: Version, project: Project) -> Path:
    return project.folder / "store" / report_path(version)


def test_a_missing_report_is_made_once(prepared: tuple[Project, Prepared]) -> None:
    project, done = prepared
    first = find_report(str(project.run_toml), None, open_it=False)
    assert first["made"] and first["report"] == str(page(done.version, project))
    assert first["dataset"] == done.version.summary()
    before = page(done.version, project).read_bytes()
    assert b"batch_size = 2" in before
    again = find_report(str(project.folder / "store"), "test@1", open_it=False)
    assert again == first | {"made": False}
    assert page(done.version, project).read_bytes() == before


def test_the_command_prints_and_opens_it(
    prepared: tuple[Project, Prepared], tmp_path: Path
) -> None:
    project, done = prepared
    page(done.version, project).unlink(missing_ok=True)
    # What `webbrowser` starts, and what it was given.
    program, asked = tmp_path / "browser", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$1" > {asked}\n')
    program.chmod(0o755)
    env = {"TILEWRIGHT_HOME": str(tmp_path / "home"), "BROWSER": f"{program} %s"}
    done_ = tilewright("report", project.run_toml, "--open", env=env)
    assert done_.returncode == 0, done_.stderr
    assert done_.stdout.strip() == str(page(done.version, project))
    assert "making the report of test@1" in done_.stderr
    assert asked.read_text().strip() == page(done.version, project).as_uri()
    told = tilewright("report", project.folder / "store", "--json", env=env)
    answer = json.loads(told.stdout)
    assert answer["report"] == done_.stdout.strip() and not answer["made"]


def test_what_is_not_there_is_refused(prepared: tuple[Project, Prepared], tmp_path: Path) -> None:
    project, _ = prepared
    env = {"TILEWRIGHT_HOME": str(tmp_path / "home")}
    for arguments, told in (
        ([tmp_path / "nowhere"], "there is no store"),
        ([project.run_toml, "--dataset", "test@9"], "no such dataset version"),
    ):
        done = tilewright("report", *arguments, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr


def test_a_report_in_s3_is_brought_here(
    prepared: tuple[Project, Prepared], tmp_path: Path, s3_url: str
) -> None:
    _, done = prepared
    store = open_store(s3_url)
    store.replace(report_path(done.version), b"<!DOCTYPE html>")
    copy = local_copy(store, done.version)
    assert copy.name == "test-1.html"
    assert copy.read_bytes() == b"<!DOCTYPE html>"


RUNS = ("20261125-080000-test-000001", "20261126-080000-test-000002", "20261127-080000-dogs-000003")


@pytest.fixture
def runs(prepared: tuple[Project, Prepared]) -> Path:
    """A folder of runs that were started, two of them on the dataset of the project."""
    folder = prepared[0].folder / "store" / "runs"
    for run_id in RUNS:
        (folder / run_id).mkdir(parents=True, exist_ok=True)
        start = {"event": "start", "time": 1.0, "step": 0, "epoch": 0, "total_steps": 5}
        event = json.dumps(start | {"resumed_from": None})
        (folder / run_id / "events.jsonl").write_text(f"{event}\n")
        (folder / run_id / "run.json").write_text('{"dataset": "test", "version": 1}')
    return folder


def test_the_report_of_a_run_is_made_anew(
    prepared: tuple[Project, Prepared], runs: Path, tmp_path: Path
) -> None:
    project, _ = prepared
    env = {"TILEWRIGHT_HOME": str(tmp_path / "home")}
    for arguments, run_id in (
        ([runs / RUNS[0]], RUNS[0]),
        ([project.run_toml, "--run", RUNS[0]], RUNS[0]),
        ([project.run_toml, "--run", "latest"], RUNS[1]),
        ([project.folder / "store", "--run", "latest"], RUNS[2]),
    ):
        page = runs / run_id / "report.html"
        page.write_text("as it was before")
        done = tilewright("report", *arguments, env=env)
        assert (done.returncode, done.stdout.strip()) == (0, str(page)), done.stderr
        assert f"<b><bdi>{run_id}</bdi></b>" in page.read_text()
    told = tilewright("report", runs / RUNS[0], "--json", env=env)
    page = runs / RUNS[0] / "report.html"
    assert json.loads(told.stdout) == {"report": str(page), "made": True, "run_id": RUNS[0]}


def test_a_run_that_is_not_there_is_refused(
    prepared: tuple[Project, Prepared], runs: Path, tmp_path: Path
) -> None:
    project, _ = prepared
    env = {"TILEWRIGHT_HOME": str(tmp_path / "home")}
    for arguments, told in (
        ([project.run_toml, "--run", "nothing"], f"no such run; runs: {RUNS[0]}"),
        ([tmp_path / "nowhere", "--run", "latest"], "there is no store"),
        ([runs / RUNS[0], "--dataset", "test@1"], "says nothing of a run"),
    ):
        done = tilewright("report", *arguments, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in " ".join(done.stderr.split())
    (runs / RUNS[0] / "status.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be made"):
        find_run_report(str(runs / RUNS[0]), None, open_it=False)
    (runs / RUNS[0] / "status.json").unlink()


def test_the_report_of_a_run_in_s3_is_made_from_its_copy(runs: Path, s3_url: str) -> None:
    store = open_store(s3_url)
    for name in ("events.jsonl", "run.json"):
        store.replace(f"runs/{RUNS[1]}/{name}", (runs / RUNS[1] / name).read_bytes())
    store.replace(f"runs/{RUNS[1]}/backups/00000001/denoiser.safetensors", b"large")
    done = find_run_report(s3_url, "latest", open_it=False)
    assert done["report"] == store.uri(f"runs/{RUNS[1]}/report.html")
    page = store.read_bytes(f"runs/{RUNS[1]}/report.html").decode()
    assert f"<b><bdi>{RUNS[1]}</bdi></b>" in page
