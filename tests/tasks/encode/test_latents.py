"""Latents: what is cut of each source, when, and within which memory."""

from pathlib import Path

import numpy as np
import pytest

from storage.digest import digest_bytes
from tasks.config.models import DataConfig
from tasks.encode import latents
from tasks.imaging.decode import decode
from tasks.imaging.jobs import SampleJob
from tasks.imaging.memory import decode_budget
from tasks.imaging.sample_pixels import sample_pixels
from tasks.imaging.views import View
from tests.model_fixtures import TinyModels
from tests.photos import make_photo
from tests.projects import Prepared, make_project

FULL = View("full", 0.0, (80, 56), (0, 0, 160, 112), (80, 56))
TILE = View("detail", 2.0, (183, 128), (64, 32, 64, 64), (64, 64))
SAMPLES = {FULL: {b"a": {}, b"b": {"flip": True}}, TILE: {b"c": {"hue": 0.1}}}
NUM_BYTES = 3 * (2 * 80 * 56 + 64 * 64)


@pytest.fixture
def job(tmp_path: Path) -> SampleJob:
    path = tmp_path / "photo.jpg"
    path.write_bytes(make_photo(160, 112, 1))
    return SampleJob(str(path), digest_bytes(path.read_bytes()), SAMPLES)


@pytest.mark.parametrize(("eager_bytes", "kind"), [(NUM_BYTES, True), (NUM_BYTES - 1, False)])
def test_every_sample_is_cut_and_augmented(job: SampleJob, eager_bytes: int, kind: bool) -> None:
    (cut,) = latents.cut_sources([job], DataConfig(), eager_bytes)
    items = cut()
    assert isinstance(items, list) == kind
    found = {key: (view, pixels) for key, view, pixels in items}
    image = decode(Path(job.path).read_bytes())
    for view, keys in SAMPLES.items():
        for key, values in keys.items():
            assert found[key][0] == view
            assert np.array_equal(found[key][1], sample_pixels(image, view, values))
    assert len(found) == 3


@pytest.mark.parametrize("eager_bytes", [0, NUM_BYTES])
def test_a_source_that_is_not_what_was_scanned_gives_nothing(
    job: SampleJob, eager_bytes: int
) -> None:
    for change in (lambda path: path.write_bytes(make_photo(160, 112, 2)), Path.unlink):
        change(Path(job.path))
        (cut,) = latents.cut_sources([job], DataConfig(), eager_bytes)
        assert list(cut()) == []


def test_a_large_source_waits_for_its_memory_when_its_turn_comes(job: SampleJob) -> None:
    """Held memory and a source that waits for its turn must never wait for each other."""
    data = DataConfig(decode_memory_mib=7)
    with decode_budget(7).hold(7 << 20):
        (cut,) = latents.cut_sources([job], data, 0)
        items = cut()
    assert len(list(items)) == 3
    with decode_budget(7).hold(7 << 20):
        pass  # it was given back


@pytest.mark.parametrize("batch_size", [1, 3])
def test_large_sources_are_encoded_within_little_memory(
    tmp_path: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=0)
    for number in range(4):
        project.add_photo(f"photo{number}", number, "a photo", (700, 490))
    options = ["data.threads=3", "concepts.0.image.enable_random_flip=true"]

    def prepared(*more: str) -> Prepared:
        return project.prepare(*options, f"data.encode_batch_size={batch_size}", *more)

    with monkeypatch.context() as patch:
        # As if every second photo were large; each is more than the memory and decoded alone.
        sizes = iter([0, 2**30] * 1000)
        real = latents.cut_sources

        def mixed(jobs: list[SampleJob], data: DataConfig, _: int) -> object:
            for job in jobs:
                yield from real([job], data, next(sizes))

        patch.setattr(latents, "cut_sources", mixed)
        first = prepared("data.decode_memory_mib=1")
    assert first.computed()["latents"] == first.rows.num_rows
    assert {Path(path).name for path in first.rows["path"].to_pylist()} == {
        f"photo{number}.jpg" for number in range(4)
    }
    assert prepared().computed()["latents"] == 0
