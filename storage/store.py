"""A store: immutable files under relative names, on a disk, in S3 or in memory.

Three operations carry all promises: `put_if_absent` (exclusive and whole), `publish_file` (the
same for big files) and `list` (never stale). What each place does for them is in `*_files.py`.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from storage.digest import HASH_NAME
from storage.errors import AlreadyExistsError, CorruptError, NotFoundError, UnsupportedStoreError
from storage.local_files import LocalFiles
from storage.memory_files import MemoryFiles
from storage.naming import checked_path, new_name
from storage.s3_files import S3Files

FORMAT = 1
_FACTS = "store.json"


class Files(Protocol):
    """What a place does for a store; paths are relative POSIX paths, checked by the store."""

    scheme: str
    root: str
    url: str

    def prepare(self) -> None: ...  # noqa: D102
    def local_path(self, path: str) -> Path | None: ...  # noqa: D102
    def scratch_folder(self) -> Path: ...  # noqa: D102
    def size(self, path: str) -> int | None: ...  # noqa: D102
    def read(self, path: str, offset: int = 0, nbytes: int | None = None) -> bytes: ...  # noqa: D102
    def put_if_absent(self, path: str, data: bytes) -> bool: ...  # noqa: D102
    def replace(self, path: str, data: bytes) -> None: ...  # noqa: D102
    def publish(self, local: Path, path: str) -> bool: ...  # noqa: D102
    def fetch(self, path: str, local: Path) -> None: ...  # noqa: D102
    def list(self, prefix: str) -> dict[str, int]: ...  # noqa: D102
    def delete(self, path: str) -> None: ...  # noqa: D102


PLACES: dict[str, Callable[[str], Files]] = {
    "file": LocalFiles,
    "memory": MemoryFiles,
    "s3": S3Files,
}


class Store:
    """An open store. Threads may share it; processes get their own by pickling or by URL."""

    def __init__(self, files: Files, uuid: str) -> None:
        self.url = files.url
        self.root = files.root
        self.uuid = uuid
        self.is_local = files.scheme == "file"
        self._files = files

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(open_store, create=False), (self.url,)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @property
    def fs(self) -> Any:
        """The fsspec file system below, for readers that want one; `root` is its folder."""
        import fsspec

        return fsspec.filesystem("file") if self.is_local else getattr(self._files, "fs")  # noqa: B009

    def uri(self, path: str) -> str:
        """Name a file for people and other programs: an absolute path or a URL."""
        return f"{self.url.rstrip('/')}/{path}" if path else self.url

    def local_path(self, path: str) -> Path | None:
        """Tell where a file lies on this machine, None where it does not."""
        return self._files.local_path(checked_path(path))

    def scratch_folder(self) -> Path:
        """Tell where to build a file that `publish_file` will move in."""
        return self._files.scratch_folder()

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file (a folder is not a file)."""
        return self._files.size(checked_path(path)) is not None

    def size(self, path: str) -> int:
        """Tell the size in bytes; NotFoundError where there is no such file."""
        size = self._files.size(checked_path(path))
        if size is None:
            raise NotFoundError(f"{self.url}: there is no {path}")
        return size

    def read_bytes(self, path: str) -> bytes:
        """Read a whole file; NotFoundError where there is none."""
        return self._files.read(checked_path(path))

    def read_range(self, path: str, offset: int, nbytes: int) -> bytes:
        """Read exactly `nbytes` bytes.

        Raises:
            NotFoundError: there is no such file.
            CorruptError: it ends before.
        """
        data = self._files.read(checked_path(path), offset, nbytes) if nbytes else b""
        if len(data) != nbytes:
            raise CorruptError(
                f"{self.uri(path)}: asked for {nbytes} bytes from {offset}, got {len(data)}: "
                "the file was cut"
            )
        return data

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create a file, whole and durable; False, and nothing done, where the name is taken."""
        return self._files.put_if_absent(checked_path(path), data)

    def replace(self, path: str, data: bytes) -> None:
        """Overwrite a file in one step: only for mirrors of a workspace, never for truth."""
        self._files.replace(checked_path(path), data)

    def publish_file(self, local: Path, path: str) -> None:
        """Move a finished file in under a name of its own; AlreadyExistsError if it is taken."""
        if not self._files.publish(local, checked_path(path)):
            raise AlreadyExistsError(f"{self.uri(path)} is there already and is immutable")

    def fetch_file(self, path: str, local: Path) -> None:
        """Copy a file out of the store; NotFoundError where there is none."""
        self._files.fetch(checked_path(path), local)

    def list(self, prefix: str) -> dict[str, int]:
        """List all files below a folder: relative path to size, as it is now, sorted by path."""
        found = self._files.list(checked_path(prefix) if prefix else "")
        return dict(sorted(found.items()))

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        self._files.delete(checked_path(path))


def open_store(url: str, *, create: bool = True) -> Store:
    """Open the store at a folder path, `file://`, `memory://NAME` or `s3://bucket/prefix`.

    Raises:
        NotFoundError: there is no store and `create` is off (or the bucket does not exist).
        UnsupportedStoreError: an unknown scheme or format, or a place without exclusive create.
        CorruptError: `store.json` is damaged.
    """
    files = _place(url)
    if files.size(_FACTS) is None:
        if not create:
            raise NotFoundError(f"there is no store at {files.url}: {_FACTS} is missing")
        files.prepare()
        facts = {"format": FORMAT, "hash": HASH_NAME, "uuid": new_name()}
        files.put_if_absent(_FACTS, json.dumps(facts).encode())
    return Store(files, _checked_uuid(files))


def _place(url: str) -> Files:
    scheme, rest = url.split("://", 1) if "://" in url else ("file", url)
    if scheme not in PLACES:
        raise UnsupportedStoreError(
            f"[store] url = {url!r}: {scheme!r} is not known; give a folder, "
            "memory://NAME or s3://BUCKET/PREFIX"
        )
    if not rest.strip("/") and rest != "/":
        raise ValueError(
            f"[store] url = {url!r} names no place: give a folder or s3://BUCKET/PREFIX"
        )
    return PLACES[scheme](rest)


def _checked_uuid(files: Files) -> str:
    where = f"{files.url}/{_FACTS}"
    try:
        facts = json.loads(files.read(_FACTS))
        found, hash_name, uuid = facts["format"], facts["hash"], str(facts["uuid"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{where} is damaged: {error}") from error
    if found != FORMAT or hash_name != HASH_NAME:
        raise UnsupportedStoreError(
            f"{where} says format {found!r} and hash {hash_name!r}; this version of Tilewright "
            f"reads format {FORMAT} with {HASH_NAME}: use the version that made the store"
        )
    return uuid
