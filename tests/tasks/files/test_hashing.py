"""When a file's bytes must be read again, and when its stat is proof enough."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.digest import digest_bytes
from storage.records import HASH_CACHE
from tasks.files.hashing import hash_files, look_up, stat_table, trusted
from tasks.files.listing import FileStat, list_files, stat_file

HOUR_NS = 3600 * 10**9


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"pixels")
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    return path


def cache_of(files: list[FileStat], *, settle: bool = False) -> pa.Table:
    rows = hash_files(files, "image", lambda data: {"width": len(data)}, threads=2, settle=settle)
    return pa.Table.from_pylist(list(rows), schema=HASH_CACHE)


def found(files: list[FileStat], cache: pa.Table) -> list[Any]:
    return look_up(stat_table(files), trusted(cache))["content_id"].to_pylist()


def test_an_untouched_file_is_known(photo: Path) -> None:
    files = list_files(str(photo.parent), recursive=False)
    cache = cache_of(files)
    assert found(files, cache) == [digest_bytes(b"pixels")]
    assert cache["width"].to_pylist() == [6]


def test_a_renamed_file_is_known(photo: Path) -> None:
    cache = cache_of([stat_file(str(photo))])
    moved = photo.rename(photo.with_name("other.jpg"))
    assert found([stat_file(str(moved))], cache) == [digest_bytes(b"pixels")]


def test_two_files_that_swapped_names_are_known(photo: Path) -> None:
    other = photo.with_name("other.jpg")
    other.write_bytes(b"other!")
    os.utime(other, (photo.stat().st_mtime - 9, photo.stat().st_mtime - 9))
    cache = cache_of([stat_file(str(photo)), stat_file(str(other))])
    photo.rename(photo.with_name("x"))
    other.rename(photo)
    photo.with_name("x").rename(other)
    swapped = [stat_file(str(photo)), stat_file(str(other))]
    assert found(swapped, cache) == [digest_bytes(b"other!"), digest_bytes(b"pixels")]


def test_an_overwritten_file_is_read_again(photo: Path) -> None:
    cache = cache_of([stat_file(str(photo))])
    photo.write_bytes(b"others")
    assert found([stat_file(str(photo))], cache) == [None]


def test_other_bytes_under_the_old_size_and_time_are_read_again(photo: Path) -> None:
    before = photo.stat()
    cache = cache_of([stat_file(str(photo))])
    photo.write_bytes(b"others")
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found([stat_file(str(photo))], cache) == [None]


def test_a_file_written_just_before_hashing_is_distrusted(photo: Path) -> None:
    photo.write_bytes(b"fresh!")
    cache = cache_of([stat_file(str(photo))])
    assert found([stat_file(str(photo))], cache) == [None]


def test_settling_waits_until_a_fresh_file_can_be_trusted(photo: Path) -> None:
    photo.write_bytes(b"fresh!")
    cache = cache_of([stat_file(str(photo))], settle=True)
    assert found([stat_file(str(photo))], cache) == [digest_bytes(b"fresh!")]


def test_a_time_in_the_future_neither_waits_nor_distrusts(photo: Path) -> None:
    ahead = time.time_ns() + HOUR_NS
    os.utime(photo, ns=(ahead, ahead))
    cache = cache_of([stat_file(str(photo))], settle=True)
    assert found([stat_file(str(photo))], cache) == [digest_bytes(b"pixels")]


def test_a_vanished_file_is_a_row_with_a_reason(photo: Path) -> None:
    stat = stat_file(str(photo))
    photo.unlink()
    row = cache_of([stat]).to_pylist()[0]
    assert row["content_id"] is None
    assert "vanished" in row["error"]


def test_a_file_that_changed_since_the_listing_is_a_row_with_a_reason(photo: Path) -> None:
    stat = replace(stat_file(str(photo)), mtime_ns=1)
    assert "changed" in cache_of([stat]).to_pylist()[0]["error"]


def test_an_object_is_known_by_its_etag_alone() -> None:
    remote = FileStat("s3://bucket/a.jpg", 6, 0, 0, 0, '"etag"')
    row = {"kind": "image", "path": remote.path, "size": 6, "mtime_ns": 0, "ctime_ns": 0}
    row |= {"inode": 0, "etag": '"etag"', "hashed_at_ns": 1, "content_id": b"k" * 16}
    cache = pa.Table.from_pylist([row], schema=HASH_CACHE)
    moved = replace(remote, path="s3://bucket/b.jpg")
    other = replace(remote, etag='"new"')
    assert found([remote, moved, other], cache) == [b"k" * 16, b"k" * 16, None]


def test_objects_without_an_etag_are_never_taken_for_each_other() -> None:
    row = {"kind": "image", "path": "memory://a", "size": 6, "mtime_ns": 0, "ctime_ns": 0}
    row |= {"inode": 0, "etag": "", "hashed_at_ns": time.time_ns(), "content_id": b"k" * 16}
    cache = pa.Table.from_pylist([row], schema=HASH_CACHE)
    assert found([FileStat("memory://b", 6, 0, 0, 0, "")], cache) == [None]
