"""A source is decoded only while it is the file that was scanned, and only while it fits."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from storage.digest import digest_bytes
from tasks.config.models import DataConfig
from tasks.files.reading import SourceChangedError
from tasks.files.sources import IN_MEMORY_BYTES, decoded
from tasks.imaging.decode import ImageError, decode
from tasks.imaging.memory import MemoryBudget, decode_budget
from tests import odd_files
from tests.photos import make_photo

DATA = DataConfig(decode_memory_mib=123)
LARGE = (4000, IN_MEMORY_BYTES // 12_000 + 1)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.jpg"
    path.write_bytes(make_photo(320, 240, 1))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """An uncompressed TIFF that is too large to be read whole."""
    path = tmp_path / "large.tif"
    width, height = LARGE
    ramp = (np.arange(width * height * 3, dtype=np.uint32) % 251).astype(np.uint8)
    odd_files.vips(ramp.reshape(height, width, 3)).tiffsave(str(path))
    assert path.stat().st_size > IN_MEMORY_BYTES
    return path


def pixels(path: str, source_id: bytes, data: DataConfig = DATA) -> np.ndarray:
    with decoded(path, source_id, data) as image:
        return image


@pytest.mark.parametrize("name", ["small", "large"])
def test_pixels_are_those_of_decoding_the_bytes(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    data = path.read_bytes()
    assert np.array_equal(pixels(str(path), digest_bytes(data)), decode(data))


def test_a_large_remote_file_is_brought_here(large: Path) -> None:
    data = large.read_bytes()
    fsspec.filesystem("memory").pipe_file("/sources/large.tif", data)
    found = pixels("memory://sources/large.tif", digest_bytes(data))
    assert np.array_equal(found, decode(data))
    with pytest.raises(SourceChangedError, match="changed"):
        pixels("memory://sources/large.tif", b"another id 16 by")
    with pytest.raises(SourceChangedError, match="vanished"):
        pixels("memory://sources/gone.tif", digest_bytes(data))


@pytest.mark.parametrize("name", ["small", "large"])
def test_other_bytes_than_were_scanned_are_refused(
    name: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    source_id = digest_bytes(path.read_bytes())
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    with pytest.raises(SourceChangedError, match="changed while the run was reading it"):
        pixels(str(path), source_id)
    path.unlink()
    with pytest.raises(SourceChangedError, match="vanished while the run was reading it"):
        pixels(str(path), source_id)


@pytest.mark.parametrize("content", [b"", b"half of a file, no image any more"])
def test_a_large_file_that_changes_after_its_hash_was_taken_is_refused(
    large: Path, content: bytes
) -> None:
    source_id, data = digest_bytes(large.read_bytes()), DataConfig(decode_memory_mib=61)
    budget = decode_budget(61)
    with ThreadPoolExecutor(1) as pool:
        with budget.hold(1 << 30):
            # It has been opened and hashed, and now waits for memory.
            result = pool.submit(pixels, str(large), source_id, data)
            wait_until(lambda: waiting(budget) == 1)
            large.write_bytes(content)
        with pytest.raises(SourceChangedError, match="changed while the run was reading it"):
            result.result(timeout=60)


def test_what_cannot_be_decoded_says_why(small: Path) -> None:
    data = small.read_bytes()[:2000]
    small.write_bytes(data)
    with pytest.raises(ImageError, match="truncated"):
        pixels(str(small), digest_bytes(data))
    with decode_budget(DATA.decode_memory_mib).hold(1 << 40):
        pass  # nothing is held any more


def test_pixels_count_until_they_are_given_back(small: Path) -> None:
    source_id = digest_bytes(small.read_bytes())
    data = DataConfig(decode_memory_mib=1)  # 320 x 240 pixels are a quarter of it
    inside, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        with decoded(str(small), source_id, data):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    assert 1 < most <= 3


def waiting(budget: MemoryBudget) -> int:
    return len(budget._queue)


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(60_000):
        if true():
            return
        time.sleep(0.001)
    raise AssertionError("waited in vain")
