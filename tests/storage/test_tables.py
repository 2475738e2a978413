import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import CorruptError, NotFoundError
from storage.store import Store
from storage.tables import get_table, put_table


def test_equal_tables_are_stored_once(store: Store) -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    path = put_table(store, "plans", table)
    assert put_table(store, "plans", pa.concat_tables([table.slice(0, 1), table.slice(1)])) == path
    assert list(store.list("plans")) == [path]
    assert put_table(store, "plans", table.slice(1)) != path
    assert get_table(store, path).equals(table)
    assert get_table(store, path, ["b", "a"]).equals(table.select(["b", "a"]))
    assert pq.read_table(io.BytesIO(store.read_bytes(path))).equals(table)
    with pytest.raises(ValueError, match="'c'"):
        get_table(store, path, ["a", "c"])


def test_missing_and_damaged_tables_are_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match="plans/none"):
        get_table(store, "plans/none.parquet")
    path = put_table(store, "plans", pa.table({"a": list(range(1000))}))
    data = bytearray(store.read_bytes(path))
    data[len(data) // 3] ^= 1
    store.replace(path, bytes(data))
    with pytest.raises(CorruptError, match=path):
        get_table(store, path)
