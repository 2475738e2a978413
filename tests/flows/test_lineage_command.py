"""`tilewright lineage` of models that were really trained, and what Prefect is told of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.lineage_text import MAX_SOURCES, lineage_lines
from storage.store import open_store
from tasks.lineage.record import LINEAGE_FILE
from tasks.train.mirror import mirror
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import Answer, PrefectServer, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    folder = tmp_path_factory.mktemp("lineage") / "a project"  # no asset's key has a space
    project = make_project(folder, tiny_models["sd15"], num_photos=2)
    project.prepare()
    return project


@pytest.fixture(scope="module")
def trained(prefect_server: PrefectServer, project: Project) -> dict[str, Any]:
    """The summary of a training."""
    return prefect_server.tilewright("train", project.run_toml, "--json").summary()


def lineage(*arguments: str | Path) -> Answer:
    command = [sys.executable, "-m", "flows", "lineage", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_every_name_of_a_model_leads_to_its_lineage(
    project: Project, trained: dict[str, Any], tmp_path: Path
) -> None:
    run_id, store = trained["run_id"], project.folder / "store"
    workspace = store / "runs" / run_id
    copied, inside = map(Path, trained["outputs"])
    elsewhere = shutil.copy(copied, tmp_path / "renamed.safetensors")
    asked: list[tuple[str | Path, ...]] = [
        (copied,),
        (inside,),
        (trained["backups"][-1],),
        (workspace,),
        (run_id, "--store", store),
        ("latest", "--store", project.run_toml),
        (elsewhere, "--store", store),
    ]
    told = [lineage(*words, "--json").summary() for words in asked]
    assert {one["run_id"] for one in told} == {run_id}
    assert [one["as_written"] for one in told] == [True, True, None, None, None, None, True]
    assert {one["workspace"] for one in told} == {str(workspace)}
    (first,) = told[0]["trained"]
    assert first["dataset"]["name"] == "test" and first["dataset"]["version"] == 1
    assert {one["path"] for one in first["sources"]} == set(map(str, project.photos.glob("*.jpg")))
    assert sum(one["rows"] for one in first["sources"]) == trained["dataset"]["num_samples"]
    assert told[0]["base"]["name"] == str(project.config().model.base)


def test_people_read_the_chain(project: Project, trained: dict[str, Any]) -> None:
    done = lineage(trained["outputs"][0])
    assert done.code == 0 and done.stderr == ""
    for told in (
        f"run      {trained['run_id']}: done, step {trained['steps']}",
        "dataset  test@1 of ",
        f"{trained['dataset']['num_samples']} rows of 2 photos",
        str(project.photos / "photo1.jpg"),
        "  latents ",
        "code     tilewright 0.1.0",
        "(of this lineage)",
    ):
        assert told in done.stdout


def test_one_photo(project: Project, trained: dict[str, Any], tmp_path: Path) -> None:
    model, photo = trained["outputs"][0], project.photos / "photo0.jpg"
    source = lineage(model, "--source", photo, "--json").summary()["source"]
    assert source["file"] == "unchanged" and source["seen_under"] == [str(photo)]
    (part,) = source["trained"]
    kinds = [row["kind"] for row in part["rows"]]
    assert kinds[0] == "full" and set(kinds[1:]) == {"detail"}
    assert {row["prompts"][0] for row in part["rows"]} == {"a photo, number 0"}
    assert all(row["latent_key"] and row["texts"][0]["key"] for row in part["rows"])
    by_id = lineage(model, "--source", source["source_id"][:12]).stdout
    assert f"{photo}: unchanged" in by_id and "[inherited]" in by_id
    renamed = shutil.copy(photo, tmp_path / "renamed.jpg")
    assert f"seen under {photo}" in lineage(model, "--source", renamed).stdout

    original = photo.read_bytes()
    try:
        photo.write_bytes(original + b"more")
        assert f"{photo}: changed since" in lineage(model, "--source", photo).stdout
        photo.unlink()
        assert f"{photo}: no longer there" in lineage(model, "--source", photo).stdout
    finally:
        photo.write_bytes(original)


def test_bad_input_is_told(project: Project, trained: dict[str, Any], tmp_path: Path) -> None:
    model = trained["outputs"][0]
    alone = shutil.copy(model, tmp_path / "alone.safetensors")
    old = tmp_path / "old"
    old.mkdir()
    (old / "run.json").write_text("{}")
    damaged = shutil.copytree(project.folder / "store" / "runs" / trained["run_id"], old / "run")
    next(damaged.glob("lineage-*.parquet")).write_bytes(b"no table")
    for arguments, told in (
        ((tmp_path / "nothing",), "is no file or folder"),
        ((project.photos / "photo0.jpg",), "is no safetensors file"),
        ((project.folder,), "does not say which run made it"),
        ((alone,), f"comes from run {trained['run_id']}, which is not near it"),
        ((alone, "--store", tmp_path), "there is no store at"),
        (("no-run", "--store", project.run_toml), f"no such run; runs: {trained['run_id']}"),
        ((model, "--source", "photo7.jpg"), "nothing of this photo went into the model"),
        ((old,), "has no lineage"),
        ((damaged,), "is not as it was written"),
    ):
        done = lineage(*arguments)
        assert (done.code, done.stdout) == (2, ""), done.stderr
        assert told in " ".join(done.stderr.split())


def test_a_run_in_a_store_elsewhere(project: Project, trained: dict[str, Any], s3_url: str) -> None:
    run_id = trained["run_id"]
    mirror(open_store(s3_url), run_id, project.folder / "store" / "runs" / run_id)
    told = lineage(trained["outputs"][0], "--store", s3_url, "--json").summary()
    assert told["run_id"] == run_id and told["workspace"] is None and told["as_written"]
    assert lineage(run_id, "--store", s3_url).code == 0


def test_long_lists_and_a_run_that_went_on(project: Project, trained: dict[str, Any]) -> None:
    told = lineage(trained["outputs"][0], "--json").json
    (part,) = told["trained"]
    many = part | {"sources": part["sources"] * MAX_SOURCES, "from_step": 3}
    captions = [{"model": "tiny", "digest": "ab", "rows": 7}]
    many["counts"] = part["counts"] | {"captions": captions, "split": {"train": 8, "validation": 2}}
    lines = list(lineage_lines(told | {"trained": [part, many], "as_written": False}))
    assert "from step 3 on" in lines and "its run went on since" in lines[0]
    assert "captions 7 rows by tiny (digest ab)" in lines
    assert any(line.endswith("2 of them for validation") for line in lines)
    assert f"... and {len(many['sources']) - MAX_SOURCES} more; --json lists all" in lines


def test_prefect_is_told_of_the_model_and_its_dataset(
    prefect_server: PrefectServer, project: Project, trained: dict[str, Any]
) -> None:
    def events(name: str) -> list[dict[str, Any]]:
        found = prefect_server.post("/events/filter", filter={"event": {"name": [name]}})
        return [one for one in found["events"] if "a_project" in str(one["resource"])]

    (made,) = wait_for(lambda: events("prefect.asset.materialization.succeeded"))
    (used,) = wait_for(lambda: events("prefect.asset.referenced"))
    folder = str(project.folder).replace(" ", "_")
    assert made["resource"]["prefect.resource.id"] == f"file://{folder}/out.safetensors"
    dataset = used["resource"]["prefect.resource.id"]
    assert dataset == f"file://{folder}/store/datasets/test"
    upstream = [one for one in made["related"] if one["prefect.resource.role"] == "asset"]
    assert [one["prefect.resource.id"] for one in upstream] == [dataset]
    assert made["payload"]["run_id"] == trained["run_id"]
    record = project.folder / "store" / "runs" / trained["run_id"] / LINEAGE_FILE
    assert json.loads(record.read_text())["run_id"] == trained["run_id"]
    assert made["payload"]["lineage"] == lineage(record.parent, "--json").json["lineage"]
    assert made["payload"]["path"] == str(project.folder / "out.safetensors")


@pytest.mark.parametrize("variable", ["", "http://board.example:6006/tb/", "javascript:alert(1)"])
def test_an_artifact_leads_to_tensorboard(
    prefect_server: PrefectServer, project: Project, variable: str
) -> None:
    env = {**os.environ, **prefect_server.env, "TILEWRIGHT_TENSORBOARD_URL": variable}
    command = (Path(sys.executable).parent / "tilewright", "train", project.run_toml, "--json")
    run_id = prefect_server.run(*command, "--stop-after-steps", "1", env=env).summary()["run_id"]
    found = prefect_server.post("/artifacts/filter", artifacts={"key": {"any_": ["tensorboard"]}})
    (mine,) = [one for one in found if one["description"] == f"{run_id}: TensorBoard"]
    if variable.startswith("http"):
        assert f"(http://board.example:6006/tb/?runFilter={run_id[:8]}" in mine["data"]
        assert mine["type"] in ("link", "markdown")
    else:
        workspace = project.folder / "store" / "runs" / run_id
        assert f"tilewright tensorboard '{workspace}'" in mine["data"]
        assert "javascript" not in mine["data"]
