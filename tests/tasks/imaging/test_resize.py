"""A part of an image is resized in strips, with the pixels that torch gives for the whole part."""

import numpy as np
import pytest
import torch

from tasks.imaging.resize import resize

CASES = [
    ((900, 700), (300, 233)),
    ((900, 700), (1200, 950)),
    ((900, 700), (300, 950)),
    ((900, 700), (1200, 233)),
    ((64, 900), (64, 200)),
    ((640, 480), (100, 480)),
    ((37, 29), (5, 3)),
    ((3, 2), (50, 60)),
    ((1, 1), (9, 9)),
]


def by_torch(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    planes = torch.from_numpy(np.ascontiguousarray(part)[None]).permute(0, 3, 1, 2)
    out = torch.nn.functional.interpolate(planes, size=size[::-1], mode="bicubic", antialias=True)
    return out[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("part", "size"), CASES)
def test_a_part_and_a_whole_are_what_torch_gives(
    part: tuple[int, int], size: tuple[int, int]
) -> None:
    width, height = part
    image = np.random.default_rng(1).integers(0, 256, (height + 9, width + 7, 3), np.uint8)
    inner = image[4 : 4 + height, 5 : 5 + width]
    expected = by_torch(inner, size)
    assert np.array_equal(resize(image, *size, box=(5, 4, width, height)), expected)
    assert np.array_equal(resize(np.ascontiguousarray(inner), *size), expected)


def test_the_result_is_an_array_of_its_own() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    before = image.copy()
    for box in (None, (0, 0, 60, 40), (5, 5, 20, 30)):
        out = resize(image, 20, 30, box=box)
        assert out.flags.c_contiguous and out.flags.owndata
        out[:] = 0
    assert np.array_equal(image, before)
