"""Sources: the pixels of scanned images, decoded within the memory that they may take at once."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO, cast

import fsspec

from storage.digest import digest_file
from tasks.config.models import DataConfig
from tasks.files.listing import is_local
from tasks.files.reading import SourceChangedError, read_source
from tasks.imaging.decode import decode_opened, peak_bytes
from tasks.imaging.header import open_image
from tasks.imaging.memory import decode_budget

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

IN_MEMORY_BYTES = 32 * 2**20
"""Larger files are not read whole: an uncompressed one is as large as its pixels."""


@contextmanager
def decoded(path: str, source_id: bytes, data: DataConfig) -> Iterator["Pixels"]:
    """The decoded pixels of a source, which must still be the file that was scanned.

    Waits until they fit into `data.decode_memory_mib`; they count until the context ends. A thread
    must leave the context of one image before it enters that of another.

    Raises:
        SourceChangedError: the file is gone, cannot be read or holds other bytes.
        ImageError: it cannot be decoded.
    """
    with ExitStack() as held:
        yield _decode(path, source_id, data, held)


def _decode(path: str, source_id: bytes, data: DataConfig, held: ExitStack) -> "Pixels":
    with _content(path, source_id) as content:
        image = open_image(content, max_pixels=data.max_pixels)
        held.enter_context(decode_budget(data.decode_memory_mib).hold(peak_bytes(image)))
        return decode_opened(content, image)


@contextmanager
def _content(path: str, source_id: bytes) -> Iterator[bytes | BinaryIO]:
    """The verified bytes of a source, or a stream of them when there are many."""
    if _size(path) <= IN_MEMORY_BYTES:
        yield read_source(path, source_id)
        return
    with _stream(path) as stream:
        before = _stat(stream)
        try:
            if digest_file(stream) != source_id:
                raise SourceChangedError(f"{path} changed while the run was reading it")
            stream.seek(0)
            yield stream
        finally:
            # What was decoded (or could not be) may not be what was hashed.
            if _stat(stream) != before:
                raise SourceChangedError(f"{path} changed while the run was reading it")


def _size(path: str) -> int:
    try:
        if is_local(path):
            return Path(path).stat().st_size
        fs, inner = fsspec.core.url_to_fs(path)
        return int(fs.size(inner))
    except FileNotFoundError as error:
        raise SourceChangedError(f"{path} vanished while the run was reading it") from error


@contextmanager
def _stream(path: str) -> Iterator[BinaryIO]:
    """A file as a stream with a descriptor; a remote one is brought here first."""
    if is_local(path):
        try:
            with Path(path).open("rb") as stream:
                yield stream
        except OSError as error:
            raise SourceChangedError(f"{path} cannot be read: {error.strerror}") from error
        return
    with TemporaryFile() as copy:
        with fsspec.open(path, "rb") as remote:
            shutil.copyfileobj(remote, copy, 1 << 20)
        copy.seek(0)
        yield cast("BinaryIO", copy)


def _stat(stream: BinaryIO) -> tuple[int, int]:
    found = os.fstat(stream.fileno())
    return found.st_size, found.st_mtime_ns
