"""Reading: the bytes of a local or remote file, and whether they still are what was seen before."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import TypeVar

import fsspec

from storage.digest import digest_bytes
from tasks.files.listing import is_local

T = TypeVar("T")
R = TypeVar("R")


class SourceChangedError(Exception):
    """A file vanished or changed after the scan saw it; the next run sees it anew."""


def read_bytes(path: str) -> bytes:
    """All bytes of a file by its path or URL. Raises OSError."""
    if is_local(path):
        return Path(path).read_bytes()
    fs, inner = fsspec.core.url_to_fs(path)
    data: bytes = fs.cat_file(inner)
    return data


def read_source(path: str, source_id: bytes) -> bytes:
    """The bytes of a source, which must still be those that were scanned.

    Raises:
        SourceChangedError: the file is gone, cannot be read any more or holds other bytes.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError as error:
        raise SourceChangedError(f"{path} vanished while the run was reading it") from error
    except OSError as error:
        if not is_local(path):
            raise
        raise SourceChangedError(f"{path} cannot be read: {error.strerror}") from error
    if digest_bytes(data) != source_id:
        raise SourceChangedError(f"{path} changed while the run was reading it")
    return data


def num_threads(configured: int) -> int:
    """The number of threads to use: as configured, or one per core and at most 8."""
    return configured or min(8, cpu_count() or 1)


def thread_map(
    function: Callable[[T], R], items: Iterable[T], threads: int, *, ahead: int = 1
) -> Iterator[R]:
    """`map` on threads, in order, with at most `threads + ahead` items in flight."""
    iterator = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(function, item) for item in islice(iterator, threads + ahead)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(function, item) for item in islice(iterator, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
