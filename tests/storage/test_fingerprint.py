import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.fingerprint import table_digest

ROW = st.fixed_dictionaries(
    {
        "word": st.one_of(st.none(), st.text(max_size=4)),
        "number": st.one_of(st.none(), st.integers(-5, 5)),
        "flag": st.one_of(st.none(), st.booleans()),
        "key": st.one_of(st.none(), st.binary(min_size=2, max_size=2)),
        "list": st.one_of(
            st.none(), st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=3)
        ),
        "record": st.one_of(st.none(), st.fixed_dictionaries({"x": st.floats(width=32)})),
    }
)
SCHEMA = pa.schema(
    [
        ("word", pa.string()),
        ("number", pa.int16()),
        ("flag", pa.bool_()),
        ("key", pa.binary(2)),
        ("list", pa.list_(pa.string())),
        ("record", pa.struct([("x", pa.float32())])),
    ]
)


def table(rows: list) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@given(st.lists(ROW, max_size=6), st.integers(0, 6))
@settings(max_examples=150)
def test_chunks_slices_and_dictionaries_do_not_count(rows: list, cut: int) -> None:
    whole = table(rows)
    padded = table([*rows[:1], *rows, *rows[:2]]).slice(min(1, len(rows)), len(rows))
    chunked = pa.concat_tables([table(rows[:cut]), table(rows[cut:])])
    encoded = chunked.set_column(0, "word", chunked["word"].dictionary_encode())
    wide = whole.set_column(0, "word", whole["word"].cast(pa.large_string()))
    digests = {table_digest(made) for made in (whole, padded, chunked, encoded, wide)}
    assert len(digests) == 1


@given(st.lists(ROW, max_size=4), st.lists(ROW, max_size=4))
@settings(max_examples=200)
def test_different_values_have_different_digests(first: list, second: list) -> None:
    equal = repr(table(first).to_pylist()) == repr(table(second).to_pylist())
    assert (table_digest(table(first)) == table_digest(table(second))) is equal


def test_bytes_under_nulls_do_not_count() -> None:
    mask = np.array([False, True])
    for kind, one, two in [("i4", [1, 2], [1, 3]), ("U2", ["a", "b"], ["a", "c"])]:
        tables = [
            pa.table({"x": pa.array(np.array(v, kind), mask=mask, from_pandas=False)})
            for v in (one, two)
        ]
        assert table_digest(tables[0]) == table_digest(tables[1])


def test_names_types_and_order_count() -> None:
    base = pa.table({"a": pa.array([1, 2], pa.int32()), "b": ["x", "y"]})
    others = [
        base.rename_columns(["a", "c"]),
        base.select(["b", "a"]),
        base.set_column(0, "a", pa.array([1, 2], pa.int64())),
        base.take([1, 0]),
        base.slice(0, 1),
        base.set_column(1, "b", pa.array([b"x", b"y"])),
    ]
    digests = {table_digest(made) for made in [base, *others]}
    assert len(digests) == 1 + len(others)


def test_a_map_has_no_canonical_form() -> None:
    maps = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32()))
    with pytest.raises(TypeError, match="map"):
        table_digest(pa.table({"m": maps}))


def test_a_million_rows_are_quick() -> None:
    count = 1_000_000
    keys = np.random.default_rng(0).bytes(16 * count)
    made = pa.table(
        {
            "key": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(16), count, [None, pa.py_buffer(keys)]
            ),
            "path": pa.array([f"photos/{number}.jpg" for number in range(count)]),
            "x": np.arange(count),
        }
    )
    start = time.process_time()
    table_digest(made)
    assert time.process_time() - start < 1
