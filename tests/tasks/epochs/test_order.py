from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.order import LIMIT_SECONDS, order_seconds
from tasks.epochs.order import (
    EpochOrder,
    OrderColumns,
    OrderSettings,
    epoch_plan,
    epoch_steps,
    select_entries,
    steps_per_epoch,
)


def make_columns(bucket, **columns) -> OrderColumns:
    count = len(bucket)
    defaults = {
        "concept": [0] * count,
        "repeats": [1.0] * count,
        "phase": [-1] * count,
        "num_phases": [1] * count,
        "group_hash": list(range(count)),
        "alternative": [0] * count,
        "num_alternatives": [1] * count,
    }
    dtypes = {"repeats": np.float64, "group_hash": np.uint64}
    arrays = {
        name: np.array(values, dtype=dtypes.get(name, np.int64))
        for name, values in ({"bucket": bucket} | defaults | columns).items()
    }
    return OrderColumns(**arrays)


def make_settings(**changes) -> OrderSettings:
    facts = {"content_digest": "d", "seed": 1, "batch_size": 2, "step_size": 1}
    return OrderSettings(**(facts | changes))


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


def test_repeats_are_copies_and_zero_is_none():
    columns = make_columns([0] * 4, repeats=[0.0, 1.0, 3.0, 2.0])
    assert Counter(select_entries(columns, make_settings(), 0).tolist()) == {1: 1, 2: 3, 3: 2}


def test_a_fraction_is_a_seeded_subset_of_its_size_that_changes_with_the_epoch():
    columns = make_columns([0] * 20, repeats=[0.5] * 10 + [1.25] * 10, concept=[0] * 10 + [1] * 10)
    chosen = [set(select_entries(columns, make_settings(), epoch).tolist()) for epoch in range(20)]
    halves = [frozenset(row for row in rows if row < 10) for rows in chosen]
    assert {len(half) for half in halves} == {5}
    assert len(set(halves)) > 10
    counts = Counter(select_entries(columns, make_settings(), 0).tolist())
    assert sum(counts[row] for row in range(10, 20)) in (12, 13)


def test_one_row_at_half_a_repeat_trains_in_about_half_of_the_epochs():
    columns = make_columns([0], repeats=[0.5])
    sizes = [len(select_entries(columns, make_settings(), epoch)) for epoch in range(200)]
    assert set(sizes) == {0, 1}
    assert 70 < sum(sizes) < 130


def test_each_alternative_is_trained_in_turn():
    columns = make_columns(
        [0, 1, 0, 1],
        group_hash=[4, 4, 7, 7],
        alternative=[0, 1, 0, 1],
        num_alternatives=[2, 2, 2, 2],
    )
    assert select_entries(columns, make_settings(), 0).tolist() == [0, 3]
    assert select_entries(columns, make_settings(), 1).tolist() == [1, 2]


def test_phases_take_turns_and_no_phase_is_every_epoch():
    columns = make_columns([0] * 4, phase=[-1, 0, 1, 2], num_phases=[1, 3, 3, 3])
    chosen = [select_entries(columns, make_settings(), e).tolist() for e in range(4)]
    assert chosen == [[0, 1], [0, 2], [0, 3], [0, 1]]


def test_steps_of_many_epochs_are_those_of_each():
    columns = make_columns([0] * 5 + [1] * 4, repeats=[0.5] * 9)
    lengths = epoch_steps(columns, make_settings())
    for epoch in range(10):
        assert next(lengths) == epoch_plan(columns, make_settings(), epoch).num_steps


def test_dropping_can_leave_nothing():
    order = epoch_plan(make_columns([0]), make_settings(remainder="drop"), 0)
    assert isinstance(order, EpochOrder)
    assert order.num_steps == 0
    assert order.num_dropped == {0: 1}


def test_a_million_rows_are_ordered_in_time():
    # Twice the promise: other tests share the cores.
    assert order_seconds() < 2 * LIMIT_SECONDS
