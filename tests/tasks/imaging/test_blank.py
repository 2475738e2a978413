"""The measures of the blank test are the textbook's, however they are taken."""

import cv2
import numpy as np
import pytest

from tasks.imaging.blank import is_blank, measure, resized_luma
from tasks.imaging.resize import resize
from tests.photos import photo_pixels

SIZES = [(1, 1), (5, 1), (1, 5), (2, 2), (3, 3), (48, 64), (300, 17)]


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(2)
    noise = [random.integers(0, top, (*size, 3), np.uint8) for size in SIZES for top in (256, 40)]
    return [*noise, photo_pixels(400, 300, 1), np.full((64, 64, 3), 128, np.uint8)]


@pytest.mark.parametrize("number", range(len(pictures())))
def test_measures_are_those_of_plain_canny(number: int) -> None:
    pixels = pictures()[number]
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    std, edges = measure(pixels)
    assert std == pytest.approx(luma.astype(float).std() / 255, abs=1e-9)
    assert edges == np.count_nonzero(cv2.Canny(luma, 100, 200)) / luma.size
    assert measure(luma) == (std, edges)


def test_a_tile_cut_from_luma_measures_as_one_cut_from_colours() -> None:
    image = photo_pixels(500, 400, 3)
    for box in (None, (10, 20, 400, 300)):
        colours, luma = resize(image, 250, 200, box), resized_luma(image, 250, 200, box)
        tile = (slice(30, 158), slice(100, 228))
        assert measure(luma[tile]) == measure(colours[tile])


def test_a_threshold_of_0_is_no_test() -> None:
    assert is_blank(0.0, 0.0, 0.0, 0.0) is None
    assert "luma std 0.0010 < blank_std_threshold 0.004" in str(is_blank(0.001, 1, 0.004, 0))
    assert "edge share 0.0010 < blank_edge_threshold 0.015" in str(is_blank(1, 0.001, 0, 0.015))
    assert is_blank(0.004, 0.015, 0.004, 0.015) is None
