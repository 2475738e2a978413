"""The lineage that a training keeps: parts, the digest in its models, and what may go wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from safetensors import safe_open

from storage.store import open_store
from tasks.lineage.origin import origin_of
from tasks.lineage.record import LINEAGE_FILE, lineage_digest, read_part_rows, read_record
from tasks.train.backup import newest_backup
from tasks.train.child import train_rank
from tasks.train.mirror import mirror
from tasks.train.spec import TrainSpec, write_spec
from tests.tasks.train.conftest import Bench
from tests.tasks.train.synthetic import make_config, make_dataset, make_spec


def messages(spec: TrainSpec) -> list[str]:
    lines = (spec.workspace / "events.jsonl").read_text().splitlines()
    return [one["text"] for one in map(json.loads, lines) if one["event"] == "message"]


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_a_finished_model_names_the_lineage_of_its_run(bench: Bench) -> None:
    spec = bench.spec(max_steps=2, save={"every": 1, "unit": "step"})
    assert bench.train(spec) == "done" and messages(spec) == []
    record, digest = read_record(spec.workspace)
    (model,) = spec.workspace.glob("output/*")
    (save,) = spec.workspace.glob("saves/step-00000001/*")
    for file in (model, save):
        told = metadata(file)
        assert told["tilewright.lineage"] == digest == lineage_digest(spec.workspace)
        assert told["tilewright.code"].startswith("0.1.0")
        assert str(bench.folder) not in "".join(told.values())
        assert origin_of(file).run_id == "run"
    assert origin_of(newest_backup(spec.backups) or Path()).run_id == "run"
    (part,) = record["trained"]
    assert part["dataset"]["content_digest"] == bench.version.content_digest
    assert part["config"]["train"]["max_steps"] == 2
    assert part["counts"]["rows"] == 8 and part["from_step"] == 0
    assert set(record["base"]["weights"]) == {"vae", "unet", "text_encoder", "scheduler"}
    rows = read_part_rows(spec.workspace, part)
    assert rows.num_rows == 8


def test_a_run_that_goes_on_with_other_data_has_a_part_for_each(bench: Bench) -> None:
    spec = bench.spec(max_steps=4)
    first = bench.version
    assert bench.train(replace(spec, stop_after_steps=2)) == "stopped"
    before = read_record(spec.workspace)
    backup = newest_backup(spec.backups)
    again = replace(spec, resume_from=backup, stop_after_steps=1)
    assert bench.train(again) == "stopped"
    assert read_record(spec.workspace) == before, "the same data, settings and code"

    second = make_dataset(bench.store, loss_weight=[0.5] * 8)
    assert second.number == 2
    changed = replace(spec, version=2, new_data=True, resume_from=newest_backup(spec.backups))
    assert bench.train(changed) == "done"
    record, digest = read_record(spec.workspace)
    told = [(part["from_step"], part["dataset"]["content_digest"]) for part in record["trained"]]
    assert told == [(0, first.content_digest), (3, second.content_digest)]
    (model,) = spec.workspace.glob("output/*")
    assert metadata(model)["tilewright.lineage"] == digest != before[1]


def test_a_model_made_of_a_model_of_ours_names_its_run(bench: Bench) -> None:
    spec = bench.spec("first", max_steps=1)
    bench.train(spec)
    model = spec.config.model.model_copy(update={"base": str(newest_backup(spec.backups))})
    config = spec.config.model_copy(update={"model": model})
    second = make_spec(bench.folder / "runs" / "second", config, bench.version)
    bench.train(second)
    records = [read_record(one.workspace)[0] for one in (spec, second)]
    assert [record["base"]["from_run"] for record in records] == [None, "first"]
    digests = [record["base"]["weights"] for record in records]
    assert digests[0]["vae"] == digests[1]["vae"] and digests[0]["unet"] != digests[1]["unet"]


def test_a_lineage_that_cannot_be_written_is_told_and_fails_nothing(bench: Bench) -> None:
    spec = bench.spec(max_steps=1)
    (spec.workspace / LINEAGE_FILE).mkdir(parents=True)  # nothing can be written there
    assert bench.train(spec) == "done"
    assert "the lineage could not be written: IsADirectoryError" in messages(spec)[0]
    (model,) = spec.workspace.glob("output/*")
    assert "tilewright.lineage" not in metadata(model)
    assert metadata(model)["tilewright.run_id"] == "run"


def test_a_store_elsewhere_gets_the_lineage(
    bench: Bench, s3_url: str, tiny_models: dict[str, Path]
) -> None:
    store = open_store(s3_url)
    version = make_dataset(store)
    config = make_config(tiny_models["sd15"], s3_url, max_steps=2)
    spec = make_spec(bench.folder / "runs" / "remote", config, version)
    write_spec(spec)
    assert train_rank(spec, Event()) == "done"
    there = {path.rsplit("/", 1)[-1]: path for path in store.list("runs/remote")}
    record = json.loads(store.read_bytes(there[LINEAGE_FILE]))
    rows = there[record["trained"][0]["rows"]["file"]]
    copy = bench.folder / "copy"
    copy.mkdir()
    for path in (there[LINEAGE_FILE], rows):
        store.fetch_file(path, copy / path.rsplit("/", 1)[-1])
    assert read_part_rows(copy, read_record(copy)[0]["trained"][0]).num_rows == 8
    store.delete(rows)
    mirror(store, "remote", spec.workspace)
    assert rows in store.list("runs/remote")


@pytest.mark.parametrize("damage", ["{", "[]"])
def test_a_damaged_lineage_of_before_is_told(bench: Bench, damage: str) -> None:
    spec = bench.spec(max_steps=1)
    spec.workspace.mkdir(parents=True)
    (spec.workspace / LINEAGE_FILE).write_text(damage)
    assert bench.train(spec) == "done"
    assert "is damaged" in messages(spec)[0]
    shutil.rmtree(spec.workspace)
    assert bench.train(spec) == "done" and messages(spec) == []
