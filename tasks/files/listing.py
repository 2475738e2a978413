"""Listing: which files a concept's folder holds, with the stat that tells whether they changed."""

import os
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif"),
        *(".heic", ".heif", ".jxl"),
    }
)
NOT_SOURCES = ("-masklabel", "-condlabel")
"""File stems that end like this are masks and conditioning images, as OneTrainer names them."""

UNUSABLE = {
    "!link": "a symbolic link that leads nowhere or to itself",
    "!name": "its name is no valid UTF-8: rename it",
    "!folder": "permission to list this folder is denied",
}
"""Why an entry of a folder is no file that could be read, by the mark that stands as its etag."""


class FileStat(NamedTuple):
    """One file, and what decides whether its bytes must be hashed again.

    A tuple, as there may be hundreds of thousands of them: it is made in a quarter of the time that
    a frozen dataclass takes.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    etag: str


def is_local(path: str) -> bool:
    """Whether a path is one of this machine's, not a URL."""
    return "://" not in path


def list_files(folder: str, *, recursive: bool) -> list[FileStat]:
    """All files below a local folder or fsspec URL, sorted by path; dot-folders are skipped.

    Entries that cannot be read are listed with a mark of UNUSABLE as their etag, so that they are
    named; a folder's path then ends in a slash.
    """
    if is_local(folder) or folder.startswith("file://"):
        root = folder.removeprefix("file://")
        return sorted(_walk_local(root, recursive, {Path(root).resolve()}), key=itemgetter(0))
    return sorted(_walk_remote(folder, recursive), key=itemgetter(0))


def has_image(folder: str, *, recursive: bool) -> bool:
    """Whether a local folder holds a file named like a source image."""
    with os.scandir(folder) as entries:
        if any(is_image(entry.name) and entry.name[0] != "." for entry in entries):
            return True  # nearly always, and without looking at all of a large folder
    return any(is_image(file.path) for file in list_files(folder, recursive=recursive))


def stat_file(path: str) -> FileStat:
    """The stat of one file by its path or URL. Raises FileNotFoundError."""
    if is_local(path):
        stat = Path(path).stat()
        return FileStat(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, "")
    fs, inner = fsspec.core.url_to_fs(path)
    return _remote_stat(fs, fs.info(inner))


def is_image(path: str) -> bool:
    """Whether a path is named like a source image (masks are not), or is a folder to be named."""
    if path.endswith("/"):
        return True
    dot = path.rfind(".")
    return path[dot:].lower() in IMAGE_SUFFIXES and not path.endswith(NOT_SOURCES, 0, dot)


def _walk_local(folder: str, recursive: bool, seen: set[Path]) -> Iterator[FileStat]:
    """`seen` holds the real folders on the way down, so that a loop of symlinks ends."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    if recursive:
                        yield from _walk_inner(entry.path, seen)
                    continue
                stat = entry.stat()
            except OSError:
                # What is no link has just vanished, as if it had never been there.
                if entry.is_symlink():
                    yield _unusable(entry.path, "!link")
                continue
            if entry.is_file():
                yield _local_stat(entry.path, stat)


def _walk_inner(folder: str, seen: set[Path]) -> Iterator[FileStat]:
    real = Path(folder).resolve()
    if real in seen:
        return
    if os.access(real, os.R_OK | os.X_OK):
        yield from _walk_local(folder, True, seen | {real})
    else:
        yield _unusable(f"{folder}/", "!folder")


def _local_stat(path: str, stat: os.stat_result) -> FileStat:
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            return _unusable(path, "!name")
    return FileStat(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, "")


def _unusable(path: str, mark: str) -> FileStat:
    printable = path.encode("utf-8", "backslashreplace").decode()
    return FileStat(printable, 0, 0, 0, 0, mark)


def _walk_remote(url: str, recursive: bool) -> Iterator[FileStat]:
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache(root)
    found: dict[str, dict[str, Any]] = fs.find(root, maxdepth=None if recursive else 1, detail=True)
    for path, info in found.items():
        inner = PurePosixPath(path).relative_to(root)
        if any(part.startswith(".") for part in inner.parts):
            continue
        yield _remote_stat(fs, info)


def _remote_stat(fs: Any, info: dict[str, Any]) -> FileStat:
    etag = str(info.get("ETag") or info.get("etag") or info.get("LastModified") or "")
    return FileStat(fs.unstrip_protocol(info["name"]), int(info["size"]), 0, 0, 0, etag)
