"""The report of a run, from a real workspace alone."""

import json
from dataclasses import replace

import pytest

from storage.store import open_store
from tasks.train.events import EVENTS_FILE
from tasks.train.report import REPORT_ERRORS, is_run, read_run, write_report
from tasks.train.spec import write_spec
from tests.tasks.report.page import read_page
from tests.tasks.train.synthetic import make_dataset

SETTINGS = {
    "validation": {"every": 2, "unit": "step", "quantiles": 2},
    "sample": {"every": 2, "unit": "step", "steps": 1, "prompts": ["a harbour", "a pier"]},
    "save": {"every": 2, "unit": "step"},
    "max_steps": 6,
    "backup": {"every": 2, "keep": 2},
}


@pytest.fixture
def spec(bench):
    split = ["train"] * 4 + ["validation"] * 3
    concepts = ["c"] * 4 + ["one", "one", "two"]
    bench.version = make_dataset(bench.store, ((64, 64),) * 7, split=split, concept=concepts)
    return bench.spec("20261126-200608-harbour-0bce1d", **SETTINGS)


def test_a_run_that_was_stopped_and_went_on_is_one_run(bench, spec):
    assert bench.train(replace(spec, stop_after_steps=3)) == "stopped"
    backup = max((spec.backups).iterdir())
    assert bench.train(replace(spec, resume_from=backup)) == "done"
    (spec.workspace / "run.json").write_text(
        json.dumps({"dataset": "harbour", "version": 3, "dataset_digest": "00ff"})
    )
    run = read_run(spec.workspace)
    assert sorted(run.history.steps) == [1, 2, 3, 4, 5, 6]
    assert sorted(run.history.validations) == [2, 4, 6]
    assert (run.state, run.dataset, run.history.resumed_at) == ("done", "harbour@3", [3])
    assert {step: sorted(images) for step, images in run.images.items()} == {
        2: [0, 1], 4: [0, 1], 6: [0, 1],
    }  # fmt: skip
    assert [(one.kind, one.step) for one in run.kept] == [
        ("output", None), ("save", 4), ("save", 2), ("backup", 6), ("backup", 4),
    ]  # fmt: skip
    written = sum(path.stat().st_size for path in max(spec.backups.iterdir()).iterdir())
    assert run.kept[3].num_bytes == written

    page = write_report(spec.workspace)
    assert page == spec.workspace / "report.html"
    found = read_page(page.read_text())
    assert len(found.all("section", id="samples")[0].all("img")) == 6
    assert len(found.all("section", id="curves")[0].all("figure")) == 7


def test_a_moved_workspace_tells_the_same(bench, spec):
    assert bench.train(replace(spec, stop_after_steps=3)) == "stopped"
    moved = spec.workspace.rename(bench.folder / "elsewhere")
    run = read_run(moved)
    assert list(run.images) == [2]
    assert run.images[2][0].is_relative_to(moved)
    assert run.workspace == str(moved)


def test_a_workspace_in_which_nothing_happened_has_a_report(bench, spec):
    assert not is_run(bench.folder)
    write_spec(spec)
    assert "not started" in write_report(spec.workspace).read_text()


def test_a_damaged_workspace_is_one_of_the_named_errors(bench, spec):
    write_spec(spec)
    for name, text in (
        ("config.json", "{"),
        (EVENTS_FILE, '{"event": "step", "step": 1}\n'),
        (EVENTS_FILE, '{"event": "start", "step": null, "epoch": 0, "resumed_from": null}\n' * 2
         + '{"event": "step"}\n'),
    ):  # fmt: skip
        path = spec.workspace / name
        before = path.read_bytes() if path.exists() else b""
        path.write_text(text)
        with pytest.raises(REPORT_ERRORS):
            write_report(spec.workspace)
        path.write_bytes(before)
    assert not (spec.workspace / "report.html").exists()


def test_the_copy_of_a_run_in_a_store_gets_the_report_too(spec, s3_url):
    write_spec(spec)
    store = open_store(s3_url)
    page = write_report(spec.workspace, store)
    assert store.read_bytes(f"runs/{spec.run_id}/report.html") == page.read_bytes()
