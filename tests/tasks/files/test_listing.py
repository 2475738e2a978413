import os
from pathlib import Path

import fsspec
import pytest

from tasks.files.listing import is_image, list_files, stat_file
from tests.permissions import as_anybody


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


def test_links_that_lead_nowhere_or_in_circles_are_named(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    files = list_files(str(tmp_path), recursive=True)
    assert [(Path(file.path).name, file.etag) for file in files] == [
        ("gone.jpg", "!link"),
        ("self.jpg", "!link"),
    ]


def test_a_linked_file_and_a_linked_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.jpg").write_bytes(b"xyz")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/linked.jpg").symlink_to(tmp_path / "outside/a.jpg")
    (tmp_path / "photos/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "photos/again").symlink_to(tmp_path / "photos")
    files = list_files(str(tmp_path / "photos"), recursive=True)
    assert [os.path.relpath(file.path, tmp_path / "photos") for file in files] == [
        "folder/a.jpg",
        "linked.jpg",
    ]
    assert {(file.size, file.etag) for file in files} == {(3, "")}


def test_only_files_are_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert names(tmp_path, recursive=True) == []


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open/a.jpg").write_bytes(b"x")
    (tmp_path / "private").mkdir()
    (tmp_path / "private").chmod(0)
    files = as_anybody(lambda: list_files(str(tmp_path), recursive=True))
    (tmp_path / "private").chmod(0o700)
    assert [(os.path.relpath(file.path, tmp_path), file.etag) for file in files] == [
        ("open/a.jpg", ""),
        ("private", "!folder"),
    ]
    assert files[1].path.endswith("/")
    assert is_image(files[1].path), "the scan takes it for a source, and says why it is none"


def test_a_name_that_is_no_text_is_named_in_letters_that_can_be_shown(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    (found,) = list_files(str(tmp_path), recursive=False)
    assert found.path == str(tmp_path) + "/caf\\udce9.jpg"
    assert found.etag == "!name"


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
        ("a.heic", True),
        ("a.HEIF", True),
        ("a.jxl", True),
        ("photos.jpg/a", False),
        ("jpg", False),
        ("folder/.jpg", True),
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
