"""Hashing: the content id of files, by their stat where that can be trusted, else by their bytes.

A file is known when its path, size, times and inode (or ETag) are those of a cached row; it was
renamed when everything but its path is. A local row is distrusted when the file had been written
less than two seconds before it was hashed: a later write could have left the same stat (git calls
such an entry racily clean).
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_bytes, digest_file
from tasks.arrow import as_array
from tasks.files.listing import UNUSABLE, FileStat, is_local
from tasks.files.reading import read_bytes, thread_map
from tasks.imaging.formats import outdated_refusals

RACY_NS = 2_000_000_000
STAT_COLUMNS = ("path", "size", "mtime_ns", "ctime_ns", "inode", "etag")
MOVED_COLUMNS = ("size", "mtime_ns", "inode", "etag")
IN_MEMORY_BYTES = 16 * 2**20
"""Larger local files are read in pieces."""
CHUNK_FILES, CHUNK_BYTES = 256, 32 * 2**20
"""Files are hashed in chunks, for which the system is asked at once: a disk answers many questions
in the time of one, and a thread for each file would take longer than reading it."""

Describe = Callable[[bytes | BinaryIO], dict[str, Any]]
"""Further columns of a cache row from a file's content, such as an image's dimensions."""


def stat_table(files: Sequence[FileStat]) -> pa.Table:
    """One row per file with the columns of `FileStat`."""
    schema = pa.schema(
        [("path", pa.string())]
        + [(name, pa.int64()) for name in ("size", "mtime_ns", "ctime_ns", "inode")]
        + [("etag", pa.string())]
    )
    columns = ([file[place] for file in files] for place in range(len(schema)))
    return pa.table([pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema)


def stat_key(files: pa.Table, columns: Sequence[str] = STAT_COLUMNS) -> pa.ChunkedArray:
    """A string per row made of its stat; equal strings mean an untouched file."""
    parts = [pc.fill_null(pc.cast(files[name], pa.string()), "") for name in columns]
    return pc.binary_join_element_wise(*parts, "|")


def trusted(cache: pa.Table) -> pa.Table:
    """The cache rows whose stat proves that the file still holds the same bytes.

    What was said of a file that could not be read holds while it still cannot, and of a format
    without its extra until that is installed.
    """
    local = pc.equal(pc.fill_null(cache["etag"], ""), "")
    age = pc.subtract(cache["hashed_at_ns"], cache["mtime_ns"])
    racy = pc.and_(pc.less_equal(age, RACY_NS), pc.greater_equal(age, 0))
    installed = pc.is_in(cache["error"], pa.array(outdated_refusals(), pa.string()))
    cache = cache.filter(pc.invert(pc.or_(pc.and_(local, racy), installed)))
    unread = cache.filter(pc.is_null(cache["content_id"])).select(["path", "etag"]).to_pylist()
    again = [row["path"] for row in unread if _can_be_read(row["path"], row["etag"] or "")]
    again_now = pc.is_in(cache["path"], pa.array(again, pa.string()))
    return cache.filter(pc.invert(pc.and_(pc.is_null(cache["content_id"]), again_now)))


def look_up(files: pa.Table, rows: pa.Table) -> pa.Table:
    """The cached row of every file, in the order of `files`; all null where it must be hashed.

    Args:
        files: the stat columns, one row per file.
        rows: trusted rows of the hash cache.
    """
    rows = rows.filter(pc.is_in(rows["size"], as_array(files["size"])))
    same = pc.index_in(stat_key(files), as_array(stat_key(rows)))
    if not same.null_count:
        return rows.take(as_array(same))
    moved_from = rows.filter(pc.is_null(rows["error"]))
    moved = pc.index_in(
        stat_key(files, MOVED_COLUMNS), as_array(stat_key(moved_from, MOVED_COLUMNS))
    )
    nameless = pc.and_(pc.equal(files["inode"], 0), pc.equal(files["etag"], ""))
    # A row of the very same path is no rename: its ctime says that the file was written to.
    in_place = pc.equal(moved_from["path"].take(as_array(moved)), files["path"])
    impossible = pc.or_(nameless, pc.fill_null(in_place, False))
    moved = pc.if_else(impossible, pa.scalar(None, pa.int32()), pc.add(moved, rows.num_rows))
    both = pa.concat_tables([rows, moved_from])
    return both.take(as_array(pc.coalesce(same, moved)))


def hash_files(
    files: Iterable[FileStat], kind: str, describe: Describe, *, threads: int, settle: bool
) -> Iterator[dict[str, Any]]:
    """Cache rows of files, hashed on threads; a file that cannot be read gives a row with an error.

    With `settle`, files written less than two seconds ago come last and are waited for, so that
    their rows can be trusted by the next run.
    """
    ordered = sorted(files, key=lambda file: file.mtime_ns) if settle else files

    def rows(chunk: list[FileStat]) -> list[dict[str, Any]]:
        _prefetch(chunk)
        return [_row(file, kind, describe, settle=settle) for file in chunk]

    for done in thread_map(rows, _chunks(ordered, settle=settle), threads):
        yield from done


def _chunks(files: Iterable[FileStat], *, settle: bool) -> Iterator[list[FileStat]]:
    """Files in small lots; one that must settle is alone, so that nothing done waits for it."""
    chunk: list[FileStat] = []
    num_bytes = 0
    for file in files:
        full = len(chunk) == CHUNK_FILES or num_bytes + file.size > CHUNK_BYTES
        if chunk and (full or (settle and _seconds_to_settle(file) > 0)):
            yield chunk
            chunk, num_bytes = [], 0
        chunk.append(file)
        num_bytes += file.size
    if chunk:
        yield chunk


def _prefetch(files: Iterable[FileStat]) -> None:
    """Has the system read local files ahead; what is wrong with one shows when it is read."""
    for file in files:
        if is_local(file.path):
            with suppress(OSError), Path(file.path).open("rb", buffering=0) as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _row(file: FileStat, kind: str, describe: Describe, *, settle: bool) -> dict[str, Any]:
    if settle:
        _wait_until_settled(file)
    return {"kind": kind, **file._asdict(), **_content(file, describe)}


def _content(file: FileStat, describe: Describe) -> dict[str, Any]:
    started = time.time_ns()
    if file.etag in UNUSABLE:
        return _failure(started, UNUSABLE[file.etag])
    try:
        found = _digest_and_describe(file, describe)
    except PermissionError:
        return _failure(started, "permission to read it is denied")
    except FileNotFoundError:
        return _failure(started, "vanished while the run was reading it")
    except OSError as error:
        # A bad sector is this file's trouble; that of a network is tried again.
        if not is_local(file.path):
            raise
        return _failure(started, f"cannot be read: {error.strerror}")
    if found is None:
        return _failure(started, "changed while it was being read")
    return {"hashed_at_ns": started, **found}


def _digest_and_describe(file: FileStat, describe: Describe) -> dict[str, Any] | None:
    """The content's id and description; None if a local file is no longer what was listed."""
    if not is_local(file.path):
        # Remote objects are replaced whole.
        data = read_bytes(file.path)
        return {"content_id": digest_bytes(data), **describe(data)}
    small = file.size <= IN_MEMORY_BYTES
    with Path(file.path).open("rb", buffering=0 if small else -1) as stream:
        if small:
            data = stream.read()
            found = {"content_id": digest_bytes(data), **describe(data)}
        else:
            content_id = digest_file(stream)
            stream.seek(0)
            found = {"content_id": content_id, **describe(stream)}
        now = os.fstat(stream.fileno())
    seen = (now.st_size, now.st_mtime_ns, now.st_ino)
    return found if seen == (file.size, file.mtime_ns, file.inode) else None


def _can_be_read(path: str, etag: str) -> bool:
    return etag not in UNUSABLE and (not is_local(path) or os.access(path, os.R_OK))


def _failure(hashed_at_ns: int, reason: str) -> dict[str, Any]:
    return {"hashed_at_ns": hashed_at_ns, "content_id": None, "error": reason}


def _wait_until_settled(file: FileStat) -> None:
    time.sleep(_seconds_to_settle(file))


def _seconds_to_settle(file: FileStat) -> float:
    """How long until a write to the file would show in its stat; 0 when it would by now."""
    now = time.time_ns()
    fresh = now - RACY_NS <= file.mtime_ns <= now
    return (file.mtime_ns + RACY_NS - now) / 1e9 + 0.001 if fresh else 0.0
