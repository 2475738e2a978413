"""Collections of real projects: what stays, what goes, kills, and preparations at the same time."""

import json
import multiprocessing
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from threading import Event

import pytest

from storage.errors import CorruptError, InUseError, NotFoundError
from storage.index import read_index
from storage.naming import shard_path
from storage.pins import pinned
from storage.reachable import reachable
from storage.store import Store, open_store
from storage.versions import list_versions, read_rows
from tasks.config.loading import load_config
from tasks.gc.collect import as_json, collect
from tasks.gc.kept import keep_version, release_version
from tasks.gc.roots import Rules
from tasks.lineage.origin import origin_of
from tasks.lineage.record import read_part_rows, read_record
from tasks.lineage.rows import lineage_rows
from tasks.train.child import train_rank
from tasks.train.runs import choose_run
from tasks.train.spec import TrainSpec, write_spec
from tests.model_fixtures import TinyModels
from tests.projects import Prepared, Project, copy_project, make_project, prepare

NOW = Rules(keep_versions=1, grace_hours=0)
NOTHING = {"prompts": 0, "crops": 0, "text": 0, "latents": 0}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    """Three versions: as it is, with another resolution, and with another prompt."""
    folder = tmp_path_factory.mktemp("gc") / "project"
    project = make_project(folder, tiny_models["sd15"], num_photos=2)
    project.prepare()
    project.prepare("data.resolution='96'")
    (project.photos / "photo0.txt").write_text("quite another prompt")
    project.prepare()
    return project


@pytest.fixture
def project(made_once: Project, tmp_path: Path) -> Project:
    copied = copy_project(made_once, tmp_path / "project")
    shutil.copytree(made_once.folder / "store", copied.folder / "store")
    return copied


def store_of(project: Project) -> Store:
    return open_store(str(project.folder / "store"), create=False)


def collected(store: Store, rules: Rules = NOW, **how: bool) -> dict:  # type: ignore[type-arg]
    return as_json(collect(store, rules, **how))  # type: ignore[arg-type]


def everything(store: Store) -> dict[str, int]:
    return store.list("")


def remade(prepared: Prepared) -> dict[str, int]:
    """The items that were made; files in a copied folder are all new ones to the scan."""
    return {stage: made for stage, made in prepared.computed().items() if stage != "scan"}


def kept(told: dict) -> dict[int, str]:  # type: ignore[type-arg]
    return {one["version"]: one["why"] for one in told["kept"]}


def require_whole(store: Store) -> None:
    """Fails where a version names what is not there."""
    listing = store.list("")
    for version in list_versions(store, "test"):
        for row in read_rows(store, version, ["latent_stage", "latent_shard", "texts"]).to_pylist():
            assert shard_path(row["latent_stage"], row["latent_shard"]) in listing
            assert all(shard_path(one["stage"], one["shard"]) in listing for one in row["texts"])
        for facts in version.meta["stages"].values():
            assert facts["manifest"] in listing
        for stage in ("prompts", "crops", "latents"):
            keys = reachable(store, [version]).keys[stage].to_pylist()
            stage_id = version.meta["stages"][stage]["stage_id"]
            assert set(keys) <= set(read_index(store, stage, stage_id, ["key"])["key"].to_pylist())


def test_a_dry_run_tells_and_changes_nothing(project: Project) -> None:
    store = store_of(project)
    before = everything(store)
    told = collected(store)
    assert told["dry_run"] and kept(told) == {3: "it is one of the newest"}
    assert told["marked"] is told["deleted"] is None
    by_what = Counter[str]()
    for one in told["garbage"]["groups"]:
        by_what[one["what"]] += one["files"]
    # Two versions with their tables; the latents and crops of the other resolution.
    assert by_what["datasets"] >= 4 and by_what["latents"] >= 2 and by_what["crops"] >= 1
    assert told["garbage"]["bytes"] == sum(one["bytes"] for one in told["garbage"]["groups"]) > 0
    assert everything(store) == before
    default = collected(store, Rules())
    assert set(kept(default)) == {1, 2, 3} and default["garbage"]["files"] == 0


def test_a_model_outlives_the_version_that_it_was_made_of(project: Project) -> None:
    store = store_of(project)
    first, *_ = list_versions(store, "test")
    config = project.config("train.max_steps=1")
    workspace = choose_run(config, first, reuse="never")
    facts = {"dataset": "test", "version": 1, "run_id": workspace.name, "workspace": workspace}
    spec = TrainSpec(config=config, store=store.url, **facts)
    write_spec(spec)
    assert train_rank(spec, Event()) == "done"
    rows = lineage_rows(store, first)
    assert collected(store, Rules(grace_hours=1, keep_versions=1))["kept"][0]["version"] == 1
    assert 1 not in kept(collected(store, mark=True))
    assert collected(store, delete=True)["deleted"]["files"] > 0
    assert [version.number for version in list_versions(store, "test")] == [3]

    record, digest = read_record(workspace)
    (model,) = workspace.glob("output/*")
    assert origin_of(model).lineage == digest
    (part,) = record["trained"]
    assert part["dataset"]["content_digest"] == first.content_digest
    assert part["counts"]["sources"] == 2 and part["stages"]["latents"]["made_by"]
    kept_rows = read_part_rows(workspace, part)
    assert kept_rows.equals(rows) and not kept_rows["latent_key"].null_count


def test_marked_files_go_after_the_grace_period(project: Project) -> None:
    store = store_of(project)
    rows = read_rows(store, list_versions(store, "test")[-1])
    assert collected(store, delete=True)["deleted"] == {"files": 0, "bytes": 0}, "none is marked"
    marked = collected(store, mark=True)
    assert marked["marked"]["files"] == marked["garbage"]["files"] > 0
    assert collected(store, mark=True)["marked"]["files"] == 0, "they are marked already"
    early = Rules(keep_versions=1, grace_hours=1)
    told = collected(store, early, delete=True)
    assert told["deleted"]["files"] == 0 and not told["plans"][0]["due"]
    done = collected(store, delete=True)
    assert done["deleted"] == marked["marked"]
    assert done["garbage"]["files"] == 0 and done["plans"] == [] and store.list("gc") == {}
    require_whole(store)
    (last,) = list_versions(store, "test")
    assert read_rows(store, last).equals(rows)
    assert remade(project.prepare()) == NOTHING
    # What is asked for once more is made once more, and the numbers go on.
    back = project.prepare("data.resolution='96'")
    assert back.version.number == 5 and back.computed()["latents"] > 0


def test_what_is_named_again_after_it_was_marked_stays(project: Project) -> None:
    store = store_of(project)
    marked = collected(store, mark=True)["marked"]
    back = project.prepare("data.resolution='96'")
    assert back.computed()["latents"] == 0, "what is marked is still there"
    told = collected(store, delete=True)
    assert 0 < told["deleted"]["files"] < marked["files"]
    require_whole(store)
    assert remade(project.prepare("data.resolution='96'")) == NOTHING


def test_young_versions_and_those_kept_by_hand_stay(project: Project) -> None:
    store = store_of(project)
    told = collected(store, Rules(keep_versions=1, grace_hours=1))
    assert kept(told)[1] == "it is younger than the grace period"
    keep_version(store, "test", 1)
    assert kept(collected(store))[1] == "it is kept by --keep"
    collected(store, mark=True)
    collected(store, delete=True)
    assert [version.number for version in list_versions(store, "test")] == [1, 3]
    require_whole(store)
    with pytest.raises(NotFoundError, match="newest: 1, 3"):
        keep_version(store, "test", 2)
    assert release_version(store, "test", 1) and not release_version(store, "test", 1)
    assert set(kept(collected(store))) == {3}


def add_run(folder: Path, run_id: str, version: int, **status: object) -> None:
    run = folder / run_id
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"dataset": "test", "version": version}))
    if status:
        (run / "status.json").write_text(json.dumps(status))


def test_runs_keep_what_they_train_on(project: Project, tmp_path: Path) -> None:
    store, old = store_of(project), time.time() - 7200
    runs = project.folder / "store" / "runs"
    add_run(runs, "killed", 1, state="running", updated=old)
    add_run(runs, "done", 2, state="done", updated=old)
    hour = Rules(keep_versions=1, grace_hours=0)
    assert kept(collected(store, hour)) == {
        1: "run killed is not finished",
        3: "it is one of the newest",
    }
    (runs / "killed" / "status.json").write_text(json.dumps({"state": "done", "updated": old}))
    assert set(kept(collected(store, hour))) == {3}
    fresh = json.dumps({"state": "done", "updated": time.time() + 60})
    (runs / "killed" / "status.json").write_text(fresh)
    assert kept(collected(store, hour))[1] == "run killed has only just ended"
    # Runs elsewhere, whose store is not on this machine.
    add_run(tmp_path / "workspace", "elsewhere", 2)
    told = as_json(collect(store, hour, workspace=tmp_path / "workspace"))
    assert kept(told)[2] == "run elsewhere is not finished"
    with pinned(store, "train", "test", 2):
        assert kept(collected(store, hour))[2].startswith("train on ")
    (runs / "done" / "run.json").write_text("{")
    before = everything(store)
    with pytest.raises(CorruptError, match="run done"):
        collected(store, mark=True, delete=True)
    assert everything(store) == before


def test_a_preparation_at_work_is_left_alone(project: Project) -> None:
    store = store_of(project)
    collected(store, mark=True)
    before = everything(store)
    with pinned(store, "prepare"):
        with pytest.raises(InUseError, match="Nothing was deleted"):
            collected(store, delete=True)
        assert {path for path in everything(store) if not path.startswith("pins/")} == set(before)
    assert collected(store, delete=True)["deleted"]["files"] > 0


def _sweep(url: str) -> None:
    collect(open_store(url, create=False), NOW, delete=True)


def test_a_killed_sweep_is_carried_on(project: Project) -> None:
    store = store_of(project)
    marked = collected(store, mark=True)["marked"]["files"]
    context = multiprocessing.get_context("fork")
    draw, cut = random.Random(3), 0
    for _ in range(12):
        process = context.Process(target=_sweep, args=(store.url,))
        process.start()
        process.join(draw.uniform(0.01, 0.12))
        process.kill()
        process.join()
        require_whole(store)
        assert project.plan()["stages"]["latents"]["computed"] == 0
        left = collected(store)["garbage"]["files"]
        cut += 0 < left < marked
    told = collected(store, delete=True)
    assert told["garbage"]["files"] == 0 and store.list("pins") == store.list("gc") == {}
    require_whole(store)
    assert remade(project.prepare()) == NOTHING


def _prepare_often(run_toml: str, turns: int, told: str) -> None:
    """Prepares with one setting after the other, as the flow does."""
    for turn in range(turns):
        size = ("64", "96", "128")[turn % 3]
        config = load_config(run_toml, [f"data.resolution='{size}'"])
        with pinned(open_store(config.store.url), "prepare"):
            prepare(config)
        with Path(told).open("a") as file:
            file.write(f"{size}\n")
        time.sleep(random.uniform(0, 0.3))


def test_preparations_beside_a_collector_without_any_grace_lose_nothing(project: Project) -> None:
    store, told = store_of(project), project.folder / "told"
    context = multiprocessing.get_context("spawn")
    arguments = (str(project.run_toml), 6, str(told))
    process = context.Process(target=_prepare_often, args=arguments)
    process.start()
    deleted = in_use = 0
    while process.is_alive():
        try:
            done = collected(store, mark=True, delete=True)
            deleted += done["deleted"]["files"]
        except InUseError:
            in_use += 1
        time.sleep(0.05)
    process.join()
    assert process.exitcode == 0
    assert deleted and in_use, (deleted, in_use, told.read_text())
    require_whole(store)
    last = told.read_text().split()[-1]
    again = project.prepare(f"data.resolution='{last}'")
    assert remade(again) == NOTHING and not again.created
