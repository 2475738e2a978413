import os
from pathlib import Path

import fsspec
import pytest

from tasks.files.listing import is_image, list_files, stat_file


def names(folder: Path, *, recursive: bool) -> list[str]:
    files = list_files(str(folder), recursive=recursive)
    return [os.path.relpath(file.path, folder) for file in files]


def test_subfolders_only_when_asked_and_never_dot_folders(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg", "sub/c.jpg", ".hidden/d.jpg", ".e.jpg", "sub/.trash/f.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path, recursive=False) == ["a.jpg", "b.jpg"]
    assert names(tmp_path, recursive=True) == ["a.jpg", "b.jpg", "sub/c.jpg"]


def test_a_loop_of_symlinks_ends(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").write_bytes(b"x")
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    assert names(tmp_path, recursive=True) == ["sub/a.jpg"]


def test_a_dangling_symlink_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    assert names(tmp_path, recursive=False) == []


def test_a_remote_folder_is_listed_alike(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.jpg", "sub/c.jpg", ".hidden/d.jpg"):
        memory.pipe_file(f"/listing/{name}", b"xyz")
    flat = list_files("memory://listing", recursive=False)
    deep = list_files("memory://listing", recursive=True)
    assert [file.path.removeprefix("memory://") for file in flat] == ["/listing/a.jpg"]
    assert len(deep) == 2
    assert deep[0].size == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("a.JPEG", True),
        ("a.avif", True),
        ("a.txt", False),
        ("a-masklabel.png", False),
        ("a-condlabel.png", False),
        ("folder.jpg/notes", False),
    ],
)
def test_what_is_an_image(name: str, expected: bool) -> None:
    assert is_image(name) is expected


def test_the_stat_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        stat_file(str(tmp_path / "nothing.txt"))
