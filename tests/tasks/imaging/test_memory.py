"""The budget that decoding threads share: never exceeded, never stuck."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.imaging.memory import MemoryBudget, decode_budget

SOON = 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=40), st.integers(1, 8))
def test_what_is_held_together_fits_and_everybody_gets_a_turn(
    weights: list[int], threads: int
) -> None:
    budget, lock = MemoryBudget(10), threading.Lock()
    held: list[int] = []
    seen: list[list[int]] = []

    def work(weight: int) -> None:
        with budget.hold(weight):
            with lock:
                held.append(weight)
                seen.append(list(held))
            time.sleep(0.0002)
            with lock:
                held.remove(weight)

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, weight) for weight in weights]:
            future.result(timeout=SOON)
    assert len(seen) == len(weights)
    for together in seen:
        # What takes nothing may be beside what is larger than everything.
        assert sum(together) <= 10 or len([weight for weight in together if weight]) == 1


def test_what_fits_is_held_together() -> None:
    budget, both = MemoryBudget(10), threading.Barrier(2)

    def work() -> None:
        with budget.hold(5):
            both.wait(SOON)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work) for _ in range(2)]:
            future.result(timeout=SOON)


def test_a_large_one_is_not_overtaken_by_small_ones() -> None:
    budget, order = MemoryBudget(10), []

    def work(weight: int) -> None:
        with budget.hold(weight):
            order.append(weight)

    with ThreadPoolExecutor(3) as pool, budget.hold(6):
        futures = []
        for weight in (10, 1, 2):
            futures.append(pool.submit(work, weight))
            wait_until(lambda: len(budget._queue) == len(futures))
        assert order == []
    for future in futures:
        future.result(timeout=SOON)
    assert order[0] == 10


def test_an_error_gives_back_what_was_held() -> None:
    budget = MemoryBudget(1)
    for _ in range(3):
        with pytest.raises(KeyError), budget.hold(1):
            raise KeyError
    with budget.hold(1):
        pass


def test_one_budget_for_the_whole_process() -> None:
    assert decode_budget(100) is decode_budget(100)
    assert decode_budget(100) is not decode_budget(200)


def wait_until(true: object) -> None:
    for _ in range(SOON * 1000):
        if true():  # type: ignore[operator]
            return
        time.sleep(0.001)
    raise AssertionError("waited in vain")
