from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.epochs.columns import order_columns
from tasks.epochs.entries import active_rows, select_entries
from tests.tasks.epochs.example import make_columns, make_row, make_settings, make_table, make_tile


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


def test_phases_take_turns_and_no_phase_is_every_epoch():
    columns = make_columns([0] * 4, phase=[-1, 0, 1, 2], num_phases=[1, 3, 3, 3])
    chosen = [select_entries(columns, make_settings(), e).tolist() for e in range(4)]
    assert chosen == [[0, 1], [0, 2], [0, 3], [0, 1]]


@st.composite
def datasets(draw):
    """Rows of a few sources: full views and tiles, in resolutions, variations and grid phases."""
    rows = []
    for source in "abc"[: draw(st.integers(1, 3))]:
        phases = draw(st.integers(1, 3))
        for resolution in range(draw(st.integers(1, 3))):
            for variation in draw(st.sets(st.integers(0, 3), min_size=1)):
                # Jitter moves a full view: its variations are still one view.
                which = {"resolution_index": resolution, "variation": variation}
                rows.append(make_row(source, **which, left=variation * 7))
        index = draw(st.sampled_from([-1, 0, 1]))
        for phase in range(phases):
            for place in range(draw(st.integers(0, 2))):
                for variation in draw(st.sets(st.integers(0, 3), min_size=1)):
                    turn = {"phase": phase if phases > 1 else None, "num_phases": phases}
                    known = {"resolution_index": index, "variation": variation}
                    rows.append(make_tile(source, left=place, top=phase, **known, **turn))
                    if index == 1:
                        rows.append({**rows[-1], "resolution_index": 0, "resized_width": 500})
    return make_table(rows)


@given(datasets(), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_every_row_has_its_turn_once_in_every_round(table, first):
    columns, _ = order_columns(table)
    rounds = columns.num_phases * columns.num_resolutions * columns.num_variations
    period = int(np.lcm.reduce(rounds))
    start = first * period
    turns = sum(active_rows(columns, epoch).astype(int) for epoch in range(start, start + period))
    assert (turns * rounds == period).all()


@given(datasets(), st.integers(0, 50))
@settings(max_examples=150, deadline=None)
def test_an_epoch_trains_each_view_once_and_in_one_resolution(table, epoch):
    columns, _ = order_columns(table)
    rows = table.filter(active_rows(columns, epoch)).to_pylist()
    full = Counter(row["source_id"] for row in rows if row["kind"] == "full")
    assert full == Counter(set(table["source_id"].to_pylist()))
    tiles = [row for row in rows if row["kind"] == "detail"]
    views = Counter((row["source_id"], row["left"], row["top"]) for row in tiles)
    assert not views or max(views.values()) == 1
    resolutions = {(row["source_id"], row["resolution_index"]) for row in tiles}
    assert len(resolutions) == len({source for source, _ in resolutions})


def test_two_resolutions_and_two_variations_show_all_four_in_four_epochs():
    which = [(r, v) for r in range(2) for v in range(2)]
    columns, _ = order_columns(
        make_table([make_row(resolution_index=r, variation=v) for r, v in which])
    )
    for first in (0, 1, 6):
        chosen = [select_entries(columns, make_settings(), first + e).tolist() for e in range(4)]
        assert sorted(sum(chosen, [])) == [0, 1, 2, 3]
        resolutions = [which[row][0] for (row,) in chosen]
        assert resolutions[0] != resolutions[1]


def test_a_tile_with_fewer_variations_is_trained_in_every_epoch():
    # Equal draws were merged into one row: this tile has a single variation, the other has three.
    rows = [make_tile(left=0, variation=1), *(make_tile(left=64, variation=v) for v in range(3))]
    columns, _ = order_columns(make_table(rows))
    chosen = [select_entries(columns, make_settings(), epoch).tolist() for epoch in range(3)]
    assert [rows[0] for rows in chosen] == [0, 0, 0]
    assert sorted(rows[1] for rows in chosen) == [1, 2, 3]


def test_sources_start_with_different_resolutions():
    rows = [make_row(str(n), resolution_index=r) for n in range(50) for r in range(2)]
    columns, _ = order_columns(make_table(rows))
    first = [row % 2 for row in select_entries(columns, make_settings(), 0).tolist()]
    assert 10 < sum(first) < 40


shapes = st.fixed_dictionaries(
    {"batch_size": st.integers(1, 4), "step_size": st.integers(1, 6), "seed": st.integers(0, 3)}
)


@given(st.integers(1, 30), st.integers(0, 70), st.integers(0, 9), shapes)
@settings(max_examples=150, deadline=None)
def test_samples_per_epoch_are_exact_and_spread_evenly(count, samples, epoch, shape):
    others = 5
    columns = make_columns(
        [0] * (count + others),
        concept=[3] * count + [0] * others,
        samples=[samples] * count + [-1] * others,
        repeats=[0.3] * count + [1.0] * others,
        phase=[0, *[-1] * (count - 1), *[-1] * others],
        num_phases=[2, *[1] * (count - 1), *[1] * others],
    )
    entries = select_entries(columns, make_settings(**shape), epoch)
    copies = np.bincount(entries, minlength=count + others)
    assert copies[count:].tolist() == [1] * others
    active = copies[:count] if epoch % 2 == 0 else copies[1:count]
    assert copies[:count].sum() == active.sum()
    if active.size:
        assert active.sum() == samples
        assert set(active) <= {samples // active.size, samples // active.size + 1}


def test_samples_per_epoch_is_a_random_subset_and_no_window():
    count, samples, epochs = 20, 5, 400
    columns = make_columns([0] * count, samples=[samples] * count)
    drawn = np.zeros((epochs, count), dtype=int)
    for epoch in range(epochs):
        drawn[epoch, select_entries(columns, make_settings(), epoch)] = 1
    assert (drawn.sum(1) == samples).all()
    assert (abs(drawn.mean(0) - samples / count) < 0.09).all()
    together = drawn.T @ drawn / epochs
    expected = samples / count * (samples - 1) / (count - 1)
    near, far = np.diag(together, 1).mean(), np.diag(together, 9).mean()
    assert abs(near - expected) < 0.02
    assert abs(far - expected) < 0.02


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_at_most_so_many_tiles_of_a_source_are_trained(tiles_of, limit, epoch):
    rows = [
        row
        for source, tiles in enumerate(tiles_of)
        for concept in ("a", "b")
        for row in (
            make_row(str(source), concept=concept, tiles_per_epoch=limit),
            *(
                make_tile(str(source), concept=concept, left=n, tiles_per_epoch=limit, repeats=2.0)
                for n in range(tiles)
            ),
        )
    ]
    table = make_table(rows)
    columns, _ = order_columns(table)
    copies = np.bincount(select_entries(columns, make_settings(), epoch), minlength=len(rows))
    trained = table.take(np.flatnonzero(copies)).to_pylist()
    kept = Counter((r["source_id"], r["concept"], r["kind"]) for r in trained)
    assert all(kept[row["source_id"], row["concept"], "full"] == 1 for row in rows)
    for key, count in Counter((r["source_id"], r["concept"], r["kind"]) for r in rows).items():
        assert kept[key] == (min(count, limit) if key[2] == "detail" else 1)
    is_tile = np.array([row["kind"] != "full" for row in rows])
    assert set(copies[is_tile]) <= {0, 2}


def test_every_tile_has_its_chance_and_the_choice_differs():
    columns, _ = order_columns(
        make_table([make_tile(left=n, tiles_per_epoch=3) for n in range(10)])
    )
    chosen = [tuple(select_entries(columns, make_settings(), epoch)) for epoch in range(60)]
    assert len(set(chosen)) > 40
    assert set(sum(chosen, ())) == set(range(10))


def test_tiles_are_limited_among_those_whose_turn_it_is():
    rows = [
        make_tile(left=n, phase=phase, num_phases=2, tiles_per_epoch=2)
        for n in range(4)
        for phase in range(2)
    ]
    columns, _ = order_columns(make_table(rows))
    for epoch in range(6):
        entries = select_entries(columns, make_settings(), epoch)
        assert len(entries) == 2
        assert (columns.phase[entries] == epoch % 2).all()


def test_samples_are_counted_after_the_limit_of_tiles():
    rows = [make_tile(left=n, tiles_per_epoch=2, samples_per_epoch=7) for n in range(6)]
    columns, _ = order_columns(make_table([*rows, make_row(samples_per_epoch=7)]))
    counts = Counter(select_entries(columns, make_settings(), 0).tolist())
    assert sum(counts.values()) == 7
    assert len(counts) == 3
    assert set(counts.values()) == {2, 3}


@pytest.mark.parametrize("change", [{"batch_size": 7}, {"step_size": 12}, {"remainder": "drop"}])
def test_entries_depend_on_dataset_seed_and_epoch_alone(change):
    rows = [
        make_tile(str(n % 5), left=n, tiles_per_epoch=2, samples_per_epoch=n % 2 * 9 or None)
        | {"concept": str(n % 2), "repeats": 0.5}
        for n in range(40)
    ]
    columns, _ = order_columns(make_table(rows))

    def entries(epoch=3, **changes):
        return select_entries(columns, make_settings(**changes), epoch).tolist()

    assert entries() == entries(**change)
    assert entries() != entries(seed=2)
    assert entries() != entries(content_digest="other")
    assert entries() != entries(epoch=4)


def test_one_feature_moves_no_draw_of_another():
    plain = make_columns([0] * 20, repeats=[0.5] * 20)
    more = make_columns(
        [0] * 30,
        concept=[0] * 20 + [1] * 10,
        repeats=[0.5] * 20 + [1.0] * 10,
        samples=[-1] * 20 + [4] * 10,
    )
    for epoch in range(3):
        entries = select_entries(more, make_settings(), epoch)
        before = select_entries(plain, make_settings(), epoch)
        assert entries[entries < 20].tolist() == before.tolist()
