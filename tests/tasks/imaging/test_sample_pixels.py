"""Sample pixels: a view's cut with its augmentation, alike for one and for many."""

import numpy as np
import pytest

from tasks.imaging import sample_pixels as module
from tasks.imaging.augment import augment
from tasks.imaging.sample_pixels import cut_samples, sample_pixels
from tasks.imaging.views import View, view_pixels
from tests.photos import photo_pixels

PHOTO = photo_pixels(160, 112, 1)
FULL = View("full", 0.0, (96, 67), (0, 0, 160, 112), (96, 64))
TILE = View("detail", 2.0, (183, 128), (64, 32, 64, 64), (64, 64))
VALUES = {"flip": True, "rotate": 4.0, "brightness": 1.2}


def test_a_sample_is_its_view_augmented() -> None:
    for view in (FULL, TILE):
        cut = view_pixels(PHOTO, view)
        assert np.array_equal(sample_pixels(PHOTO, view, {}), cut)
        assert np.array_equal(sample_pixels(PHOTO, view, VALUES), augment(cut, VALUES))


def test_many_samples_are_what_each_is_alone() -> None:
    wanted = {FULL: {b"a": VALUES, b"b": {}, b"c": {"flip": True}}, TILE: {b"d": VALUES}}
    found = {key: (view, pixels) for key, view, pixels in cut_samples(PHOTO, wanted)}
    assert len(found) == 4
    for view, samples in wanted.items():
        for key, values in samples.items():
            assert found[key][0] == view
            assert np.array_equal(found[key][1], sample_pixels(PHOTO, view, values))


def test_a_view_is_cut_once_for_all_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[View] = []
    real = module.cut_views

    def counted(image: np.ndarray, views: list[View]) -> object:
        cut.extend(views)
        return real(image, views)

    monkeypatch.setattr(module, "cut_views", counted)
    wanted = {FULL: {bytes([n]): {"brightness": 1 + n / 9} for n in range(9)}, TILE: {b"x": {}}}
    assert len(list(cut_samples(PHOTO, wanted))) == 10
    assert cut == [FULL, TILE]
