import os
from pathlib import Path

import pytest

from storage.errors import CorruptError, UnsupportedStoreError
from storage.local_files import link_exclusively, read_exactly, rename_exclusively
from storage.store import Store, open_store


@pytest.mark.parametrize("publish", [link_exclusively, rename_exclusively])
def test_a_name_is_given_once(tmp_path: Path, publish) -> None:  # type: ignore[no-untyped-def]
    for number in range(2):
        (tmp_path / f"temp{number}").write_text(str(number))
    assert publish(tmp_path / "temp0", tmp_path / "final")
    assert not publish(tmp_path / "temp1", tmp_path / "final")
    assert (tmp_path / "final").read_text() == "0"


def test_a_link_made_twice_is_a_success(tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("x")
    assert link_exclusively(tmp_path / "temp", tmp_path / "final")
    assert link_exclusively(tmp_path / "temp", tmp_path / "final")


def test_rename_reports_a_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("x")
    with pytest.raises(FileNotFoundError):
        rename_exclusively(tmp_path / "temp", tmp_path / "no" / "final")


def test_nothing_is_left_in_tmp(local_store: Store) -> None:
    local_store.put_if_absent("a", b"1")
    local_store.put_if_absent("a", b"2")
    local_store.replace("b", b"3")
    assert list(local_store.scratch_folder().iterdir()) == []


def test_a_file_is_published_across_file_systems(local_store: Store) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == Path(local_store.root).stat().st_dev:
        pytest.skip("no second file system here")
    local = elsewhere / f"tilewright-test-{os.getpid()}"
    local.write_bytes(b"x" * 1000)
    local_store.publish_file(local, "moved")
    assert not local.exists()
    assert local_store.size("moved") == 1000


def test_a_file_is_no_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnsupportedStoreError, match="file"):
        open_store(str(tmp_path / "file"))


def test_file_urls_and_folders_are_one_store(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/s").uuid == open_store(str(tmp_path / "s")).uuid


def test_a_short_file_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    out = memoryview(bytearray(4))
    read_exactly(fd, 1, out, "f")
    assert bytes(out) == b"2345"
    with pytest.raises(CorruptError, match="f ends at byte 5"):
        read_exactly(fd, 2, out, "f")
    os.close(fd)
