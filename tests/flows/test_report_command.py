"""`tilewright report`: found or made, printed, opened."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.dataset_report import find_report, local_copy
from storage.store import open_store
from storage.versions import Version
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
