from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.order import LIMIT_SECONDS, order_seconds
from tasks.epochs.order import EpochOrder, epoch_plan, epoch_steps, steps_per_epoch
from tests.tasks.epochs.example import make_columns, make_settings

shapes = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 5),
        "step_size": st.integers(1, 6),
        "remainder": st.sampled_from(["repeat", "drop"]),
        "seed": st.integers(0, 5),
    }
)
bucket_lists = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(bucket_lists, shapes)
@settings(max_examples=150, deadline=None)
def test_every_entry_is_trained_dropped_or_repeated_as_reported(bucket, shape):
    columns, chosen = make_columns(bucket), make_settings(**shape)
    order = epoch_plan(columns, chosen, 0)

    assert order.rows.shape[1] == chosen.batch_size
    assert len(order.rows) % chosen.step_size == 0
    assert (columns.bucket[order.rows] == order.buckets[:, None]).all()
    trained = Counter(order.rows.ravel().tolist())
    for code in set(bucket):
        rows = [row for row, value in enumerate(bucket) if value == code]
        missing = sum(trained[row] == 0 for row in rows)
        extra = sum(max(trained[row] - 1, 0) for row in rows)
        assert missing == order.num_dropped.get(code, 0)
        assert extra == order.num_repeated.get(code, 0)
    if chosen.remainder == "repeat":
        assert not order.num_dropped
    else:
        assert not order.num_repeated
    assert order.num_steps == steps_per_epoch(columns, chosen, 0)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_each_row_is_trained_exactly_once_when_it_fits(batches, batch_size, step_size):
    bucket = sorted([0, 1] * (batches * batch_size * step_size))
    chosen = make_settings(batch_size=batch_size, step_size=step_size)
    order = epoch_plan(make_columns(bucket), chosen, 3)
    assert sorted(order.rows.ravel().tolist()) == list(range(len(bucket)))
    assert not order.num_dropped
    assert not order.num_repeated


@given(bucket_lists, st.integers(1, 3), st.sampled_from([1, 2, 3, 6]))
@settings(max_examples=50, deadline=None)
def test_any_number_of_ranks_trains_the_same_steps(bucket, batch_size, world):
    order = epoch_plan(make_columns(bucket), make_settings(batch_size=batch_size, step_size=6), 0)
    for step in range(order.num_steps):
        shared = [order.micro_batches(step, rank, world) for rank in range(world)]
        assert sorted(sum(shared, [])) == order.micro_batches(step)
        assert all(len(part) == 6 // world for part in shared)


def test_the_order_depends_on_digest_seed_and_epoch_alone():
    columns = make_columns([0] * 40)

    def rows(epoch=0, **changes):
        return epoch_plan(columns, make_settings(**changes), epoch).rows.tolist()

    assert rows() == rows()
    assert rows() != rows(epoch=1)
    assert rows() != rows(seed=2)
    assert rows() != rows(content_digest="other")


GOLDEN = [[4, 3], [7, 5], [2, 1], [3, 0], [6, 7], [4, 3]]


def test_the_order_is_the_one_of_version_1():
    # Golden: a change here changes how every running training resumes. Raise ORDER_VERSION.
    order = epoch_plan(make_columns([0] * 5 + [1] * 3), make_settings(step_size=2), 0)
    assert order.rows.tolist() == GOLDEN


TWO = [0, 1] * 4 + [0]
CHANGING = {
    "repeats": {"repeats": [0.5] * 9},
    "samples": {"samples": [4] * 9},
    "tiles": {"tile_group": [0] * 9, "tile_limit": [4] * 9},
    "phases": {"phase": TWO, "num_phases": [2] * 9},
    "resolutions": {"resolution": TWO, "num_resolutions": [2] * 9},
    "variations": {"variation": TWO, "num_variations": [2] * 9, "group_hash": [0] * 9},
}


@pytest.mark.parametrize("columns", CHANGING.values(), ids=CHANGING)
def test_steps_of_many_epochs_are_those_of_each(columns):
    columns = make_columns([0] * 5 + [1] * 4, **columns)
    lengths = [epoch_plan(columns, make_settings(), epoch).num_steps for epoch in range(10)]
    assert list(islice(epoch_steps(columns, make_settings()), 10)) == lengths
    assert len(set(lengths)) > 1


def test_dropping_can_leave_nothing():
    order = epoch_plan(make_columns([0]), make_settings(remainder="drop"), 0)
    assert isinstance(order, EpochOrder)
    assert order.num_steps == 0
    assert order.num_dropped == {0: 1}


@pytest.mark.parametrize("everything", [False, True])
def test_a_million_rows_are_ordered_in_time(everything):
    # Twice the promise: other tests share the cores.
    assert order_seconds(everything=everything) < 2 * LIMIT_SECONDS
