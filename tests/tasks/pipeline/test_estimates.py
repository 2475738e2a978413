"""Estimates of a plan come from what earlier runs took."""

import dataclasses
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.rates import Rate, append_rate, read_rates
from storage.store import open_store
from tasks.pipeline.estimates import Estimate, estimate, total, units, weighted_median
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project

CROPS = "concepts.0.image.detail_crops."
RATE = Rate(
    stage="latents",
    stage_id="one",
    items=10,
    units=10.0,
    seconds=20.0,
    nbytes=500,
    device="cpu",
    host="here",
    finished_at="2026-01-01T00:00:00Z",
)


def rate(
    stage_id: str = "one", device: str = "cpu", seconds: float = 20.0, units: float = 10
) -> Rate:
    return dataclasses.replace(RATE, stage_id=stage_id, device=device, seconds=seconds, units=units)


def test_the_amount_is_held_against_earlier_runs() -> None:
    assert estimate([RATE], "one", "cpu", 30.0) == Estimate(60.0, 1500.0, 1)
    assert estimate([], "one", "cpu", 30.0) is None
    assert estimate([rate(units=0)], "one", "cpu", 30.0) is None


def test_the_same_stage_on_the_same_device_counts_most_and_the_device_more_than_the_stage() -> None:
    same, other_device = rate(seconds=10), rate(device="cuda", seconds=1)
    other_stage, neither = rate("two", seconds=30), rate("two", "cuda", seconds=2)
    rates = [neither, other_stage, other_device, same]
    found = []
    while rates:
        known = estimate(rates, "one", "cpu", 10.0)
        assert known is not None
        found.append(known.seconds)
        best = {10.0: same, 30.0: other_stage, 1.0: other_device, 2.0: neither}[known.seconds]
        rates.remove(best)
    assert found == [10.0, 30.0, 1.0, 2.0]


def test_small_runs_do_not_spoil_the_estimate_of_a_large_one() -> None:
    loading = [rate(seconds=9.0, units=1.0) for _ in range(4)]
    known = estimate([*loading, rate(seconds=100.0, units=200.0)], "one", "cpu", 100.0)
    assert known is not None
    assert known.seconds == 50.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.1, 1e6)), min_size=1))
def test_at_most_half_of_the_weight_is_on_either_side_of_the_median(
    pairs: list[tuple[float, float]],
) -> None:
    values, weights = zip(*pairs, strict=True)
    median = weighted_median(values, weights)
    assert median in values
    for side in (
        sum(weight for value, weight in pairs if value < median),
        sum(weight for value, weight in pairs if value > median),
    ):
        assert side <= sum(weights) / 2 * (1 + 1e-9)


def test_work_is_measured_in_what_it_is_proportional_to() -> None:
    views = pa.table(
        {
            "source_id": [b"a", b"a", b"b"],
            "original_width": pa.array([4000, 4000, 1000], pa.int32()),
            "original_height": pa.array([2000, 2000, 1000], pa.int32()),
            "bucket_width": pa.array([512, 512, 1024], pa.int32()),
            "bucket_height": pa.array([512, 512, 512], pa.int32()),
            "size": pa.array([1, 2, 3], pa.int64()),
        }
    )
    assert units("crops", views) == 9.0
    assert units("latents", views) == units("masks", views) == pytest.approx(1.048576)
    assert units("scan", views) == 6.0
    assert units("text", views) == units("captions", views) == 3.0
    assert units("crops", views.slice(0, 0)) == 0.0


def test_the_sum_says_what_it_lacks() -> None:
    known, nothing = Estimate(1.26, 10.0, 2), Estimate(0, 0, 0)
    assert total({"scan": known, "text": nothing, "latents": known}) == {
        "seconds": 2.52,
        "bytes": 20,
        "unknown": [],
    }
    assert total({"scan": known, "text": None}) == {
        "seconds": 1.26,
        "bytes": 10,
        "unknown": ["text"],
    }
    assert total({"scan": nothing, "text": None}) is None


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    folder = tmp_path_factory.mktemp("estimates") / "project"
    return make_project(folder, tiny_models["sd15"], num_photos=3)


def test_a_first_plan_knows_nothing_and_a_second_has_nothing_to_do(project: Project) -> None:
    first = project.plan()
    assert first["estimate"] is None
    assert first["stages"]["latents"]["estimate"] is None
    assert first["stages"]["captions"]["estimate"]["from"] == "nothing to do"
    project.prepare()
    second = project.plan()
    done = {"seconds": 0, "bytes": 0, "from": "nothing to do"}
    assert {name: stage["estimate"] for name, stage in second["stages"].items()} == dict.fromkeys(
        second["stages"], done
    )
    assert second["estimate"] == {"seconds": 0, "bytes": 0, "unknown": []}


def test_every_stage_notes_what_it_took(project: Project) -> None:
    counts = project.prepare().counts
    store = open_store(project.config().store.url)
    for name in ("scan", "prompts", "crops", "text", "latents"):
        (known,) = read_rates(store, name)
        assert known.items == counts[name].wanted, name
        assert known.seconds > 0 and known.units > 0 and known.nbytes > 0, name
        assert known.device == "cpu" or name in ("text", "latents")
    scanned = sum(path.stat().st_size for path in project.photos.glob("*.jpg"))
    assert read_rates(store, "scan")[0].units == scanned
    assert read_rates(store, "crops")[0].units == pytest.approx(3 * 160 * 112 / 1e6)
    assert read_rates(store, "captions") == []
    written = sum(
        path.stat().st_size
        for path in (project.folder / "store/stages/latents").rglob("*")
        if path.suffix == ".safetensors" or path.parent.name == "index"
    )
    assert read_rates(store, "latents")[0].nbytes == written


def test_a_plan_is_estimated_from_them(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.folder, tmp_path / "project")
    copied = Project(tmp_path / "project")
    copied.prepare()
    store = open_store(copied.config().store.url)
    stage_id = read_rates(store, "latents")[0].stage_id
    steady = dataclasses.replace(RATE, stage_id=stage_id, units=1e3, seconds=4e3, nbytes=10**6)
    append_rate(store, steady)
    plan = copied.plan("data.resolution=128", f"{CROPS}enabled=false")
    latents = plan["stages"]["latents"]
    # Three photos of 160 x 112 in a bucket around 128 x 128; 4 s and 1000 bytes per megapixel.
    assert latents["computed"] == 3
    megapixels = latents["estimate"]["seconds"] / 4
    assert 3 * 0.012 < megapixels < 3 * 0.02
    assert latents["estimate"]["bytes"] == pytest.approx(megapixels * 1000, abs=1)
    assert latents["estimate"]["from"] == "2 earlier runs"
    assert plan["estimate"]["unknown"] == []
    assert plan["estimate"]["seconds"] == pytest.approx(
        sum(stage["estimate"]["seconds"] for stage in plan["stages"].values()), abs=0.05
    )
