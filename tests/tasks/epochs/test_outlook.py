import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.config.models import Config
from tasks.epochs.columns import order_columns
from tasks.epochs.order import epoch_plan
from tasks.epochs.outlook import MOST_EPOCHS, outlook
from tasks.epochs.settings import PLANNED, order_settings
from tests.tasks.epochs.example import make_row, make_settings, make_table, make_tile


def unseen(record) -> dict[tuple[str, str], int]:
    return {(one.bucket, one.reason): one.rows for one in record.unseen}


def test_a_bucket_smaller_than_a_batch_is_never_seen_when_the_rest_is_dropped():
    rows = [make_row(str(n)) for n in range(8)]
    rows += [make_row(str(n), bucket_width=512) for n in range(3)]
    record = outlook(make_table(rows), make_settings(batch_size=4, remainder="drop"), epochs=5)
    assert unseen(record) == {("512x256", "remainder"): 3}
    assert [dict(epoch.dropped) for epoch in record.epochs] == [{"512x256": 3}] * 5
    assert {epoch.steps for epoch in record.epochs} == {2}
    assert not outlook(make_table(rows), make_settings(batch_size=4), epochs=5).unseen


def test_every_reason_is_told():
    rows = [make_row("off", repeats=0.0), make_row("none", concept="n", samples_per_epoch=0)]
    rows += [make_row("turns", resolution_index=r, bucket_width=64 * (r + 1)) for r in range(4)]
    rows += [make_tile("tiles", left=n, tiles_per_epoch=1) for n in range(40)]
    record = outlook(make_table(rows), make_settings(batch_size=1), epochs=2)
    found = Counter()
    for one in record.unseen:
        found[one.reason] += one.rows
    assert found["off"] == 2
    assert found["turn"] == 2
    assert found["choice"] in (38, 39)
    assert found.total() == found["off"] + found["turn"] + found["choice"]


def test_steps_that_end_within_an_epoch_leave_rows_unseen():
    rows = [make_row(str(n)) for n in range(10)]
    record = outlook(make_table(rows), make_settings(batch_size=2), epochs=10, max_steps=3)
    assert unseen(record) == {("384x256", "steps"): 4}
    assert (record.num_steps, record.num_epochs, record.exact) == (3, 1, True)
    assert record.kinds[0].share == 1.0


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.5, 1.0, 2.0])), min_size=1),
    st.integers(1, 4),
    st.sampled_from(["repeat", "drop"]),
)
@settings(max_examples=60, deadline=None)
def test_the_outlook_is_what_the_order_will_be(shapes, batch_size, remainder):
    rows = [
        (make_tile if bucket == 0 else make_row)(str(n), repeats=repeats, concept=str(repeats))
        | {"bucket_width": 64 * bucket + 64}
        for n, (bucket, repeats) in enumerate(shapes)
    ]
    table, chosen = make_table(rows), make_settings(batch_size=batch_size, remainder=remainder)
    columns, names = order_columns(table)
    record = outlook(table, chosen, epochs=3)
    orders = [epoch_plan(columns, chosen, epoch) for epoch in range(3)]
    assert [epoch.steps for epoch in record.epochs] == [order.num_steps for order in orders]
    assert [epoch.entries for epoch in record.epochs] == [order.num_entries for order in orders]
    for epoch, order in zip(record.epochs, orders, strict=True):
        assert epoch.repeated == {names[c]: n for c, n in order.num_repeated.items()}
        assert epoch.dropped == {names[c]: n for c, n in order.num_dropped.items()}
    trained = np.concatenate([order.rows.ravel() for order in orders])
    assert sum(one.rows for one in record.unseen) == len(rows) - len(set(trained.tolist()))
    shares = {kind.kind: kind.share for kind in record.kinds}
    is_tile = np.array([row["kind"] == "detail" for row in rows])
    if len(trained):
        assert shares.get("detail", 0) == pytest.approx(is_tile[trained].mean())
        assert sum(shares.values()) == pytest.approx(1)
    assert record.num_steps == sum(order.num_steps for order in orders)


def test_kinds_have_samples_shares_and_enlargement():
    tiles = {"resized_width": 1600, "resized_height": 1200, "tiles_per_epoch": 1}
    rows = [make_row(), *(make_tile(left=n, **tiles) for n in range(4))]
    rows += [make_row("v", split="validation"), make_tile(kind="context", scale=1.0)]
    record = outlook(make_table(rows), make_settings(batch_size=1), epochs=4)
    assert record.num_rows == 6
    assert [(k.kind, k.samples, k.enlarged) for k in record.kinds] == [
        *(("full", 1, 0), ("detail", 4, 4), ("context", 1, 0)),
    ]
    assert sum(kind.share for kind in record.kinds) == pytest.approx(1)
    # Of the source's tiles, one of each four details or the context tile without a limit.
    assert record.kinds[0].share == pytest.approx(1 / 3)


def test_the_number_of_epochs_looked_at_is_limited_and_said():
    table = make_table([make_row(str(n)) for n in range(4)])
    record = outlook(table, make_settings(batch_size=1), epochs=1000)
    assert len(record.epochs) == MOST_EPOCHS
    assert (record.num_epochs, record.num_steps, record.exact) == (1000, 4000, False)
    by_steps = outlook(table, make_settings(batch_size=1), epochs=1, max_steps=999)
    assert (by_steps.num_epochs, by_steps.num_steps, by_steps.exact) == (None, 999, False)


def test_a_turn_that_comes_after_the_epochs_looked_at_is_no_loss():
    rows = [make_row(variation=v, left=v) for v in range(40)]
    table, chosen = make_table(rows), make_settings(batch_size=1)
    assert unseen(outlook(table, chosen, epochs=30)) == {("384x256", "turn"): 10}
    assert not outlook(table, chosen, epochs=40).unseen
    assert unseen(outlook(table, chosen, epochs=1, max_steps=25)) == {("384x256", "turn"): 15}


def test_a_dataset_without_training_rows_has_an_outlook():
    record = outlook(make_table([make_row(split="validation")]), make_settings(), epochs=2)
    assert (record.num_rows, record.num_steps, record.kinds, record.unseen) == (0, 0, (), ())


def test_as_json_is_json():
    record = outlook(make_table([make_row(), make_tile()]), make_settings(), epochs=1)
    plain = record.as_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["kinds"][0] == {"kind": "full", "samples": 1, "share": 0.5, "enlarged": 0}
    assert plain["epochs"][0]["repeated"] == {"384x256": 1, "64x64": 1}


def test_a_plan_has_settings_without_a_digest():
    config = Config.model_validate(
        {
            "model": {"family": "sd15", "base": "m"},
            "concepts": [{"path": "p"}],
            "data": {"remainder": "drop"},
            "train": {"processes": 2, "gradient_accumulation_steps": 3, "batch_size": 4, "seed": 9},
        }
    )
    found = order_settings(config, None)
    assert (found.content_digest, found.seed) == (PLANNED, 9)
    assert (found.batch_size, found.step_size, found.remainder) == (4, 6, "drop")
    assert order_settings(config, "d").content_digest == "d"


def test_fewer_epochs_of_a_very_large_dataset_are_looked_at():
    record = outlook(make_table([make_row(repeats=1e6)]), make_settings(), epochs=10)
    assert len(record.epochs) == 3
    assert record.num_steps == 5_000_000
