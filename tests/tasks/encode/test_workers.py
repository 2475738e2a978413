"""Bounded, batched by shape, and every item exactly once."""

import threading
import time

import numpy as np
import pytest

from tasks.encode.workers import batched, encode_items, same_shape_batches
from tasks.imaging.views import View

VIEW = View("full", 0.0, (8, 8), (0, 0, 8, 8), (8, 8))


def items(shapes: list[tuple[int, int]]) -> list:
    return [
        (bytes([number]), VIEW, np.full((*shape, 3), number, np.uint8))
        for number, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("encoders", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_item_is_encoded_once_with_its_own_pixels(encoders: int, batch_size: int) -> None:
    todo = items([(8, 8), (8, 16), (8, 8), (16, 8), (8, 8), (8, 16), (8, 8)])
    done = dict(
        encode_items(
            todo,
            lambda images: [int(image.mean()) for image in images],
            batch_size=batch_size,
            encoders=encoders,
        )
    )
    assert done == {key: key[0] for key, _, _ in todo}


def test_a_batch_has_one_shape() -> None:
    batches = same_shape_batches(items([(8, 8), (8, 16), (8, 8), (8, 16), (8, 8)]), 2)
    shapes = [[pixels.shape for _, _, pixels in batch] for batch in batches]
    assert [len(set(batch)) for batch in shapes] == [1, 1, 1]
    assert sorted(len(batch) for batch in shapes) == [1, 2, 2]


def test_reading_never_runs_far_ahead_of_encoding() -> None:
    taken = 0
    behind: list[int] = []
    finished = 0

    def source() -> object:
        nonlocal taken
        for item in items([(8, 8)] * 40):
            taken += 1
            behind.append(taken - finished)
            yield item

    def slow(images: list) -> list:
        nonlocal finished
        time.sleep(0.002)
        finished += len(images)
        return images

    list(encode_items(source(), slow, batch_size=1, encoders=2))  # type: ignore[arg-type]
    assert max(behind) <= 2 * 2 + 2


def test_an_error_of_the_model_reaches_the_caller() -> None:
    def broken(images: list) -> list:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(encode_items(items([(8, 8)] * 5), broken, batch_size=1, encoders=2))
    assert threading.active_count() < 50


def test_torch_gets_its_threads_back() -> None:
    import torch

    before = torch.get_num_threads()
    list(encode_items(items([(8, 8)]), lambda images: images, batch_size=1, encoders=4))
    assert torch.get_num_threads() == before


def test_lists_of_at_most_so_many() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
