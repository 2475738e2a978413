"""When a file's bytes must be read again, and when its stat is proof enough."""

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.digest import digest_bytes
from storage.records import HASH_CACHE
from tasks.files.hashing import (
    CHUNK_FILES,
    IN_MEMORY_BYTES,
    hash_files,
    look_up,
    stat_table,
    trusted,
)
from tasks.files.listing import UNUSABLE, FileStat, list_files, stat_file
from tasks.imaging.formats import refusal
from tests.permissions import as_anybody

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
    stat = stat_file(str(photo))._replace(mtime_ns=1)
    assert "changed" in cache_of([stat]).to_pylist()[0]["error"]


def test_an_object_is_known_by_its_etag_alone() -> None:
    remote = FileStat("s3://bucket/a.jpg", 6, 0, 0, 0, '"etag"')
    row = {"kind": "image", "path": remote.path, "size": 6, "mtime_ns": 0, "ctime_ns": 0}
    row |= {"inode": 0, "etag": '"etag"', "hashed_at_ns": 1, "content_id": b"k" * 16}
    cache = pa.Table.from_pylist([row], schema=HASH_CACHE)
    moved = remote._replace(path="s3://bucket/b.jpg")
    other = remote._replace(etag='"new"')
    assert found([remote, moved, other], cache) == [b"k" * 16, b"k" * 16, None]


def test_objects_without_an_etag_are_never_taken_for_each_other() -> None:
    row = {"kind": "image", "path": "memory://a", "size": 6, "mtime_ns": 0, "ctime_ns": 0}
    row |= {"inode": 0, "etag": "", "hashed_at_ns": time.time_ns(), "content_id": b"k" * 16}
    cache = pa.Table.from_pylist([row], schema=HASH_CACHE)
    assert found([FileStat("memory://b", 6, 0, 0, 0, "")], cache) == [None]


# --- files that cannot be read -------------------------------------------------------------


def test_a_file_that_may_not_be_read_is_told_once_until_it_may(photo: Path) -> None:
    photo.chmod(0)
    stat = [stat_file(str(photo))]
    cache = as_anybody(lambda: cache_of(stat))
    assert cache["error"].to_pylist() == ["permission to read it is denied"]
    denied = as_anybody(lambda: look_up(stat_table(stat), trusted(cache)))
    assert denied["error"].to_pylist() == ["permission to read it is denied"]
    if os.geteuid() == 0:
        # Who may read it now, with no change of the file, tries again.
        assert look_up(stat_table(stat), trusted(cache))["error"].to_pylist() == [None]
    photo.chmod(0o600)
    assert found([stat_file(str(photo))], cache) == [None]


def test_a_file_that_came_back_as_it_was_is_read(photo: Path) -> None:
    stat, aside = stat_file(str(photo)), photo.with_name("aside")
    photo.rename(aside)
    cache = cache_of([stat])
    assert "vanished" in cache["error"][0].as_py()
    assert look_up(stat_table([stat]), trusted(cache))["error"].to_pylist() == [
        cache["error"][0].as_py()
    ]
    aside.rename(photo)
    assert look_up(stat_table([stat]), trusted(cache))["error"].to_pylist() == [None]


@pytest.mark.parametrize("mark", UNUSABLE)
def test_what_is_no_readable_entry_says_why_and_is_not_tried_again(mark: str) -> None:
    file = FileStat("/nowhere/a.jpg", 0, 0, 0, 0, mark)
    cache = cache_of([file], settle=True)
    assert cache["error"].to_pylist() == [UNUSABLE[mark]]
    assert look_up(stat_table([file]), trusted(cache))["error"].to_pylist() == [UNUSABLE[mark]]


def test_a_format_is_tried_again_when_its_extra_has_been_installed(photo: Path) -> None:
    stat = [stat_file(str(photo))]
    told = hash_files(stat, "image", lambda _: {"error": refusal("HEIC")}, threads=1, settle=False)
    cache = pa.Table.from_pylist(list(told), schema=HASH_CACHE)
    known = find_spec("pillow_heif") is None
    assert (look_up(stat_table(stat), trusted(cache))["error"].to_pylist() == [None]) is not known


# --- many files, large files ---------------------------------------------------------------


def test_a_large_file_is_hashed_in_pieces_and_described_from_a_stream(photo: Path) -> None:
    data = os.urandom(1 << 20) * (IN_MEMORY_BYTES // (1 << 20)) + b"more"
    photo.write_bytes(data)
    kinds: list[str] = []

    def describe(content: object) -> dict[str, int]:
        kinds.append(type(content).__name__)
        return {"width": len(content.read(5))}  # type: ignore[attr-defined]

    (row,) = hash_files([stat_file(str(photo))], "image", describe, threads=1, settle=False)
    assert row["content_id"] == digest_bytes(data)
    assert row["width"] == 5
    assert kinds == ["BufferedReader"]


def test_every_one_of_many_files_is_hashed(tmp_path: Path) -> None:
    for number in range(2 * CHUNK_FILES + 1):
        (tmp_path / f"{number:04}.jpg").write_bytes(str(number).encode())
    files = list_files(str(tmp_path), recursive=False)
    rows = list(hash_files(files, "image", lambda _: {}, threads=3, settle=False))
    assert [row["path"] for row in rows] == [file.path for file in files]
    expected = [digest_bytes(str(number).encode()) for number in range(len(files))]
    assert [row["content_id"] for row in rows] == expected
