"""Arrow: small steps on tables that pyarrow lacks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def as_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array, as `pc.is_in` wants its value set."""
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def count_in(values: pa.ChunkedArray, others: pa.ChunkedArray) -> int:
    """How many of `values` occur in `others`."""
    return count_true(pc.is_in(values, as_array(others)))


def count_true(values: pa.Array | pa.ChunkedArray) -> int:
    """How many values are true; null is not."""
    return pc.sum(values).as_py() or 0


def with_columns(table: pa.Table, **columns: Any) -> pa.Table:
    """`table` with columns replaced or added."""
    for name, values in columns.items():
        table = table.drop_columns([name] if name in table.column_names else [])
        table = table.append_column(name, values)
    return table


def with_matches(table: pa.Table, items: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """`table` with columns of the item that has the same `key`; null where there is none.

    Args:
        table: has a column `key`.
        items: has each `key` once.
        columns: name of the new column to that of the items.
    """
    at = as_array(pc.index_in(table["key"], as_array(items["key"])))
    return with_columns(table, **{new: items[name].take(at) for new, name in columns.items()})


def first_of_each(table: pa.Table, column: str) -> pa.Table:
    """The first row of every distinct value of `column`, in the order of the table."""
    if pc.count_distinct(table[column]).as_py() == table.num_rows:
        return table
    rows = pa.table({"value": table[column], "row": pa.array(range(table.num_rows), pa.int64())})
    firsts = rows.group_by("value").aggregate([("row", "min")])["row_min"]
    return table.take(firsts.take(pc.sort_indices(firsts)))


def leading_uint64(keys: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """The first eight bytes of every 16-byte key, little-endian: as random as the whole."""
    whole = as_array(keys)
    halves = np.frombuffer(whole.buffers()[1] or b"", dtype="<u8").reshape(-1, 2)
    return halves[whole.offset : whole.offset + len(whole), 0].astype(np.uint64)
