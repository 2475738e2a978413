"""Images of several strips come out as if they had been converted in one piece."""

import io

import numpy as np
import pytest
from PIL import Image

from tasks.imaging.strips import assemble, strip_rows, turn_large, upright
from tests import odd_files

SIZES = [(1500, 1501), (2_000_000, 2), (3, 700_001)]
TURNS = range(1, 9)


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_strips_are_several_and_cover_all_rows(size: tuple[int, int]) -> None:
    strips = list(strip_rows(*size))
    assert len(strips) > 1
    assert [top for top, _ in strips] == [0, *(bottom for _, bottom in strips[:-1])]
    assert strips[-1][1] == size[1]


@pytest.mark.parametrize("turn", TURNS)
def test_upright_is_what_exif_means(turn: int) -> None:
    stored = np.asarray(Image.open(io.BytesIO(odd_files.exif_rotated(turn, "PNG"))))
    assert np.array_equal(upright(stored, turn), np.asarray(odd_files.photo()))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", SIZES)
def test_turning_in_strips_is_turning_the_whole(size: tuple[int, int], turn: int) -> None:
    stored = picture(*size)
    expected = upright(stored, turn)
    asked: list[int] = []

    def strip(top: int, bottom: int) -> np.ndarray:
        asked.append(top)
        return stored[top:bottom]

    assert np.array_equal(assemble(*size, turn, strip), expected)
    assert asked == sorted(asked)
    turned = turn_large(stored.copy(), turn)
    assert np.array_equal(turned, expected)
    assert turned.flags.c_contiguous and turned.flags.writeable
