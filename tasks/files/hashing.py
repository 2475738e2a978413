"""Hashing: the content id of files, by their stat where that can be trusted, else by their bytes.

A file is known when its path, size, times and inode (or ETag) are those of a cached row; it was
renamed when everything but its path is. A local row is distrusted when the file had been written
less than two seconds before it was hashed: a later write could have left the same stat (git calls
such an entry racily clean).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_bytes
from tasks.files.listing import FileStat
from tasks.files.reading import read_bytes, thread_map, unchanged

RACY_NS = 2_000_000_000
STAT_COLUMNS = ("path", "size", "mtime_ns", "ctime_ns", "inode", "etag")
MOVED_COLUMNS = ("size", "mtime_ns", "inode", "etag")

Describe = Callable[[bytes], dict[str, Any]]
"""Further columns of a cache row from a file's bytes, such as an image's dimensions."""


def stat_table(files: Sequence[FileStat]) -> pa.Table:
    """One row per file with the columns of `FileStat`."""
    schema = pa.schema(
        [("path", pa.string())]
        + [(name, pa.int64()) for name in ("size", "mtime_ns", "ctime_ns", "inode")]
        + [("etag", pa.string())]
    )
    columns = {name: [getattr(file, name) for file in files] for name in schema.names}
    return pa.table(columns, schema=schema)


def stat_key(files: pa.Table, columns: Sequence[str] = STAT_COLUMNS) -> pa.ChunkedArray:
    """A string per row made of its stat; equal strings mean an untouched file."""
    parts = [pc.fill_null(pc.cast(files[name], pa.string()), "") for name in columns]
    return pc.binary_join_element_wise(*parts, "|")


def trusted(cache: pa.Table) -> pa.Table:
    """The cache rows whose stat proves that the file still holds the same bytes."""
    local = pc.equal(pc.fill_null(cache["etag"], ""), "")
    age = pc.subtract(cache["hashed_at_ns"], cache["mtime_ns"])
    racy = pc.and_(pc.less_equal(age, RACY_NS), pc.greater_equal(age, 0))
    return cache.filter(pc.invert(pc.and_(local, racy)))


def look_up(files: pa.Table, rows: pa.Table) -> pa.Table:
    """The cached row of every file, in the order of `files`; all null where it must be hashed.

    Args:
        files: the stat columns, one row per file.
        rows: trusted rows of the hash cache.
    """
    same = pc.index_in(stat_key(files), _array(stat_key(rows)))
    moved_from = rows.filter(pc.is_null(rows["error"]))
    moved = pc.index_in(stat_key(files, MOVED_COLUMNS), _array(stat_key(moved_from, MOVED_COLUMNS)))
    nameless = pc.and_(pc.equal(files["inode"], 0), pc.equal(files["etag"], ""))
    # A row of the very same path is no rename: its ctime says that the file was written to.
    in_place = pc.equal(moved_from["path"].take(_array(moved)), files["path"])
    impossible = pc.or_(nameless, pc.fill_null(in_place, False))
    moved = pc.if_else(impossible, pa.scalar(None, pa.int32()), pc.add(moved, rows.num_rows))
    both = pa.concat_tables([rows, moved_from])
    return both.take(_array(pc.coalesce(same, moved)))


def hash_files(
    files: Iterable[FileStat], kind: str, describe: Describe, *, threads: int, settle: bool
) -> Iterator[dict[str, Any]]:
    """Cache rows of files, hashed on threads; a file that cannot be read gives a row with an error.

    With `settle`, files written less than two seconds ago come last and are waited for, so that
    their rows can be trusted by the next run.
    """
    ordered = sorted(files, key=lambda file: file.mtime_ns) if settle else files

    def row(file: FileStat) -> dict[str, Any]:
        if settle:
            _wait_until_settled(file)
        return {"kind": kind, **asdict(file), **_content(file, describe)}

    return thread_map(row, ordered, threads)


def _content(file: FileStat, describe: Describe) -> dict[str, Any]:
    started = time.time_ns()
    try:
        data = read_bytes(file.path)
        if not unchanged(file):
            return _failure(started, "changed while it was being read")
    except PermissionError:
        return _failure(started, "permission to read it is denied")
    except FileNotFoundError:
        return _failure(started, "vanished while the run was reading it")
    return {"hashed_at_ns": started, "content_id": digest_bytes(data), **describe(data)}


def _failure(hashed_at_ns: int, reason: str) -> dict[str, Any]:
    return {"hashed_at_ns": hashed_at_ns, "content_id": None, "error": reason}


def _wait_until_settled(file: FileStat) -> None:
    now = time.time_ns()
    if now - RACY_NS <= file.mtime_ns <= now:
        time.sleep((file.mtime_ns + RACY_NS - now) / 1e9 + 0.001)


def _array(values: pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
