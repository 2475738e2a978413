"""Validation: the losses of held-out rows, which nothing but the weights changes."""

from dataclasses import replace

import pytest

from tasks.train.events import EventReader, loss_history
from tests.tasks.train.synthetic import make_dataset

SPLIT = ["train"] * 4 + ["validation"] * 3


def measured(spec):
    events = EventReader(spec.workspace / "events.jsonl").read()
    return [event for event in events if event["event"] == "validation"]


def data(bench, **columns):
    concepts = ["c"] * 4 + ["one", "one", "two"]
    buckets = ((64, 64),) * 5 + ((64, 96),) * 2
    bench.version = make_dataset(bench.store, buckets, split=SPLIT, concept=concepts, **columns)


def test_losses_are_told_by_concept_and_by_quantile(bench):
    data(bench)
    spec = bench.spec(validation={"every": 2, "unit": "step", "quantiles": 2})
    assert bench.train(spec) == "done"
    at_two, at_end = measured(spec)
    assert (at_two["step"], at_end["step"]) == (2, 4)
    assert set(at_end["by_concept"]) == {"one", "two"}
    mean = (2 * at_end["by_concept"]["one"] + at_end["by_concept"]["two"]) / 3
    assert mean == pytest.approx(at_end["loss"])
    assert sum(at_end["by_quantile"]) / 2 == pytest.approx(at_end["loss"])
    # Little noise is hard to find in latents.
    assert at_end["by_quantile"][0] != at_end["by_quantile"][1]


def test_only_the_weights_change_a_loss(bench):
    data(bench)
    settings = {"validation": {"every": 1, "unit": "step"}, "max_steps": 2}
    first, other_seed = bench.spec("first", **settings), bench.spec("seed", seed=7, **settings)
    no_steps = bench.spec("frozen", learning_rate=1e-12, batch_size=4, **settings)
    for spec in (first, other_seed, no_steps):
        assert bench.train(spec) == "done"
    assert measured(first)[0]["loss"] != measured(other_seed)[0]["loss"]
    still = [event["loss"] for event in measured(no_steps)]
    assert still[0] == pytest.approx(still[1], rel=1e-5)


def test_measuring_changes_no_training(bench):
    data(bench)
    plain = bench.spec("plain", validation={"every": 0})
    measuring = bench.spec("measuring", validation={"every": 1, "unit": "step"})
    for spec in (plain, replace(measuring)):
        assert bench.train(spec) == "done"
    assert loss_history(plain.workspace) == loss_history(measuring.workspace)
    assert not measured(plain)
