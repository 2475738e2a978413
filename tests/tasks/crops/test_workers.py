"""`detail_crops.parallel_workers`: how many sources of a concept are cut at once."""

import threading
import time
from collections import defaultdict

import pyarrow as pa
import pytest

from tasks.config.models import Config
from tasks.crops.stage import GEOMETRY, _on_workers
from tasks.imaging.jobs import SourceJob

THREADS = 2
SOURCES = 12


def config(workers: dict[str, int], *, enabled: bool = True) -> Config:
    """A concept by each name; `data.threads` is THREADS."""
    crops = {"enabled": enabled}
    concepts = [
        {
            "name": name,
            "path": name,
            "image": {"detail_crops": crops | {"parallel_workers": number}},
        }
        for name, number in workers.items()
    ]
    model = {"family": "sd15", "base": "model"}
    return Config.model_validate(
        {"model": model, "data": {"threads": THREADS}, "concepts": concepts}
    )


def missing(names: list[str]) -> pa.Table:
    """A row per source, in this order of concepts."""
    numbers = {name.name: 0 for name in GEOMETRY if pa.types.is_integer(name.type)}
    rows = []
    for place, name in enumerate(names):
        source = place.to_bytes(16, "big")
        text = {"logical": "", "group": name, "concept": name, "path": f"{name}/{place}"}
        rows.append(
            numbers | text | {"key": source, "source_id": source, "kind": "full", "scale": 0.0}
        )
    return pa.Table.from_pylist(rows, schema=GEOMETRY)


def most_at_once(settings: Config, rows: pa.Table) -> dict[str, int]:
    """The most sources of each concept, and of all, that were worked on at the same time."""
    lock, running = threading.Lock(), defaultdict(int)
    most: dict[str, int] = defaultdict(int)

    def measured(job: SourceJob) -> str:
        concept = job.path.partition("/")[0]
        with lock:
            for name in (concept, "all"):
                running[name] += 1
                most[name] = max(most[name], running[name])
        time.sleep(0.01)
        with lock:
            for name in (concept, "all"):
                running[name] -= 1
        return job.path

    assert list(_on_workers(measured, rows, settings)) == rows["path"].to_pylist()
    return dict(most)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_it_is_the_number_of_sources_at_once(number: int) -> None:
    settings = config({"a": number})
    assert most_at_once(settings, missing(["a"] * SOURCES))["a"] == number


def test_0_means_data_threads() -> None:
    assert most_at_once(config({"a": 0}), missing(["a"] * SOURCES))["a"] == THREADS


def test_without_detail_crops_it_means_nothing() -> None:
    settings = config({"a": 5}, enabled=False)
    assert most_at_once(settings, missing(["a"] * SOURCES))["a"] == THREADS


def test_each_concept_has_its_own_number() -> None:
    settings = config({"a": 1, "b": 4, "c": 0})
    rows = missing(["a"] * SOURCES + ["b"] * SOURCES + ["c"] * SOURCES)
    assert most_at_once(settings, rows) == {"a": 1, "b": 4, "c": THREADS, "all": 4}


def test_neighbours_with_the_same_number_share_it() -> None:
    settings = config({"a": 3, "b": 3})
    assert most_at_once(settings, missing(["a", "b"] * SOURCES))["all"] == 3
