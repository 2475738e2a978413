"""Listing: which files a concept's folder holds, with the stat that tells whether they changed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
NOT_SOURCES = ("-masklabel", "-condlabel")
"""File stems that end like this are masks and conditioning images, as OneTrainer names them."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """One file, and what decides whether its bytes must be hashed again."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    etag: str


def list_files(folder: str, *, recursive: bool) -> list[FileStat]:
    """All files below a local folder or fsspec URL, sorted by path; dot-folders are skipped."""
    if "://" not in folder or folder.startswith("file://"):
        root = folder.removeprefix("file://")
        return sorted(_walk_local(root, recursive, {Path(root).resolve()}), key=lambda f: f.path)
    return sorted(_walk_remote(folder, recursive), key=lambda f: f.path)


def stat_file(path: str) -> FileStat:
    """The stat of one file by its path or URL. Raises FileNotFoundError."""
    if "://" not in path:
        stat = Path(path).stat()
        return FileStat(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, "")
    fs, inner = fsspec.core.url_to_fs(path)
    return _remote_stat(fs, fs.info(inner))


def is_image(path: str) -> bool:
    """Whether a path is named like a source image (masks are not)."""
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return f"{dot}{suffix}".lower() in IMAGE_SUFFIXES and not stem.endswith(NOT_SOURCES)


def _walk_local(folder: str, recursive: bool, seen: set[Path]) -> Iterator[FileStat]:
    """`seen` holds the real folders on the way down, so that a loop of symlinks ends."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                real = Path(entry.path).resolve()
                if recursive and real not in seen and os.access(real, os.R_OK | os.X_OK):
                    yield from _walk_local(entry.path, recursive, seen | {real})
            elif entry.is_file():
                stat = entry.stat()
                yield FileStat(
                    entry.path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, ""
                )


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
