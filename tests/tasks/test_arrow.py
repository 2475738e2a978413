import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from storage.records import K
from tasks.arrow import first_of_each, leading_uint64, with_columns, with_matches

KEYS = [bytes([number] * 16) for number in range(5)]


@given(st.lists(st.integers(0, 5)), st.integers(0, 20))
def test_the_first_row_of_each_value_stays_in_its_place(values: list[int], cut: int) -> None:
    numbers = pa.array(range(len(values)), pa.int64())
    table = pa.table({"value": pa.array(values, pa.int64()), "row": numbers})
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    firsts = {value: row for row, value in reversed(list(enumerate(values)))}
    found = first_of_each(chunked, "value").to_pylist()
    assert [(one["value"], one["row"]) for one in found] == [
        (value, row) for value, row in sorted(firsts.items(), key=lambda item: item[1])
    ]


def test_matches_come_by_key_and_are_null_where_there_is_none() -> None:
    table = pa.table({"key": pa.array([KEYS[2], KEYS[0], KEYS[2]], K)})
    items = pa.table({"key": pa.array([KEYS[1], KEYS[2]], K), "offset": [10, 20]})
    assert with_matches(table, items, {"at": "offset"})["at"].to_pylist() == [20, None, 20]
    assert with_matches(table, items.slice(0, 0), {"at": "offset"})["at"].null_count == 3


def test_a_column_is_replaced_or_added() -> None:
    table = with_columns(pa.table({"a": [1], "b": [2]}), a=pa.array([3]), c=pa.array([4]))
    assert table.to_pydict() == {"b": [2], "a": [3], "c": [4]}


@given(st.lists(st.binary(min_size=16, max_size=16)), st.integers(0, 5), st.integers(0, 5))
def test_the_leading_bytes_of_keys_as_numbers(keys: list[bytes], cut: int, left_out: int) -> None:
    expected = [int.from_bytes(key[:8], "little") for key in keys]
    chunked = pa.chunked_array([pa.array(part, K) for part in (keys[:cut], keys[cut:])], K)
    assert leading_uint64(chunked).tolist() == expected
    assert leading_uint64(pa.array(keys, K).slice(left_out)).tolist() == expected[left_out:]
    assert leading_uint64(pa.chunked_array([], K)).tolist() == []
