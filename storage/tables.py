"""Tables named by their content: equal tables are stored once, under one path."""

from collections.abc import Sequence

import pyarrow as pa

from storage.digest import hexkey
from storage.fingerprint import table_digest
from storage.segments import decode_parquet, encode_parquet
from storage.store import Store


def put_table(store: Store, folder: str, table: pa.Table) -> str:
    """Store a table, unless it is there, and return its path `FOLDER/DIGEST.parquet`."""
    path = table_path(folder, table)
    put_table_at(store, path, table)
    return path


def table_path(folder: str, table: pa.Table) -> str:
    """Name a table by its content."""
    return f"{folder}/{hexkey(table_digest(table))}.parquet"


def put_table_at(store: Store, path: str, table: pa.Table) -> None:
    """Store a table under the path that `table_path` gave it, unless it is there."""
    if not store.exists(path):
        store.put_if_absent(path, encode_parquet(table))


def get_table(
    store: Store,
    path: str,
    columns: Sequence[str] | None = None,
    *,
    later: pa.Schema | None = None,
) -> pa.Table:
    """Read a stored table, or some of its columns in the order asked for.

    Args:
        store: the store.
        path: as `put_table` gave it.
        columns: which to return; all of the file's when None.
        later: columns that a table of an older version may lack; they are null then.

    Raises:
        NotFoundError: there is no such table.
        CorruptError: the file is damaged.
        ValueError: a column that it lacks.
    """
    table = decode_parquet(store.read_bytes(path), store.uri(path), columns).table
    if columns is None:
        return table
    for name in columns:
        if later is not None and name in later.names and name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, later.field(name).type))
    if unknown := sorted(set(columns) - set(table.column_names)):
        raise ValueError(f"{store.uri(path)} has no columns {unknown}")
    return table.select(list(columns))
