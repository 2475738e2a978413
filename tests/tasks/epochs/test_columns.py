import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records import DATASET
from tasks.epochs.columns import ORDER_COLUMNS, order_columns
from tests.tasks.epochs.example import make_row, make_table, make_tile


def columns_of(rows):
    columns, _ = order_columns(make_table(rows))
    return columns


def test_resolutions_are_counted_within_a_source_kind_and_scale():
    full = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 2), ("c", 1)]
    rows = [make_row(source, resolution_index=index) for source, index in full]
    rows += [make_tile("a", resolution_index=index) for index in (0, 1)]
    rows += [make_tile("a", resolution_index=1, scale=3.0)]
    columns = columns_of(rows)
    assert columns.resolution.tolist() == [0, 1, 2, 0, 1, 0, 0, 1, 0]
    assert columns.num_resolutions.tolist() == [3, 3, 3, 2, 2, 1, 2, 2, 1]
    assert columns.num_variations.tolist() == [1] * 9


def test_two_concepts_take_turns_on_their_own():
    rows = [make_row("a", concept="one", resolution_index=r) for r in range(2)]
    columns = columns_of([*rows, make_row("a", concept="two", resolution_index=1)])
    assert columns.num_resolutions.tolist() == [2, 2, 1]
    assert len(set(columns.tile_group.tolist())) == 2


def test_rows_of_any_resolution_wait_for_none():
    columns = columns_of(
        [make_tile(resolution_index=-1, left=n) for n in range(2)]
        + [make_row(resolution_index=n) for n in range(2)]
    )
    assert columns.num_resolutions.tolist() == [1, 1, 2, 2]
    assert columns.resolution.tolist() == [0, 0, 0, 1]


def test_a_full_view_is_one_view_wherever_its_jitter_moves_it():
    rows = [make_row(variation=v, left=v * 3, resized_width=400) for v in (0, 2, 5)]
    columns = columns_of(rows)
    assert columns.variation.tolist() == [0, 1, 2]
    assert columns.num_variations.tolist() == [3, 3, 3]


def test_a_tile_is_known_by_its_place():
    same = [make_tile(variation=v) for v in (1, 3)]
    changes = ({"left": 8}, {"top": 8}, {"phase": 1}, {"resized_width": 5}, {"resized_height": 5})
    others = [make_tile(variation=1, **change) for change in changes]
    others += [make_tile("b", variation=1), make_tile(variation=1, kind="context")]
    columns = columns_of(same + others)
    assert columns.num_variations.tolist() == [2, 2] + [1] * len(others)


def test_resolutions_of_a_tile_are_views_of_their_own():
    # Two variations in one resolution, of which one was merged in the other.
    rows = [make_tile(resolution_index=r, variation=v) for r, v in ((0, 0), (0, 1), (1, 0))]
    columns = columns_of(rows)
    assert columns.num_variations.tolist() == [2, 2, 1]
    assert columns.num_resolutions.tolist() == [2, 2, 2]


def test_what_is_missing_has_no_effect():
    row = make_row() | dict.fromkeys(("phase", "num_phases", "variation", "tiles_per_epoch"))
    columns = columns_of([row])
    assert (columns.phase[0], columns.num_phases[0]) == (-1, 1)
    assert (columns.samples[0], columns.tile_limit[0]) == (-1, 0)


def test_only_tiles_are_limited():
    columns = columns_of([make_row(tiles_per_epoch=3), make_tile(tiles_per_epoch=3), make_tile()])
    assert columns.tile_limit.tolist() == [0, 3, 0]


def test_repeats_come_back_from_float32():
    table = make_table([make_row(repeats=0.1)])
    assert table["repeats"].type == pa.float32()
    columns, _ = order_columns(table)
    assert columns.repeats.tolist() == [0.1]


def test_buckets_have_names():
    sizes = [(512, 768), (768, 512), (512, 768)]
    rows = [make_row(bucket_width=width, bucket_height=height) for width, height in sizes]
    columns, names = order_columns(make_table(rows))
    assert [names[code] for code in columns.bucket] == ["512x768", "768x512", "512x768"]


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_source_starts_where_its_first_bytes_say(ids, skipped):
    rows = [make_row() | {"source_id": one} for one in ids]
    table = pa.concat_tables([make_table(rows), make_table(rows)]).slice(min(skipped, len(ids)))
    columns, _ = order_columns(table)
    expected = [int.from_bytes(one[:8], "little") for one in table["source_id"].to_pylist()]
    assert columns.group_hash.tolist() == expected


def test_a_table_without_rows_has_columns():
    columns, names = order_columns(make_table([]))
    assert len(columns.bucket) == 0
    assert names == ()


def test_the_columns_are_those_of_a_dataset():
    assert set(ORDER_COLUMNS) <= set(DATASET.names)
    assert "latent_offset" not in ORDER_COLUMNS
