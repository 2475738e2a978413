"""How many requests a server gets at a time, found with simulated servers of known width."""

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.captions.parallel import FIRST, MOST, Tuner

PATIENT = 1e6
Seconds = Callable[[], float]


def simulate(tuner: Tuner, slots: int, seconds: Seconds, *, count: int = 400) -> float:
    """Lets a server of so many slots answer; gives its answers per second in the last half."""
    now, answered, half = 0.0, 0, 0.0
    queue: list[float] = []
    working: list[tuple[float, float]] = []
    active = 0
    while answered < count:
        while active < tuner.limit:
            active += 1
            queue.append(now)
        while queue and len(working) < slots:
            heapq.heappush(working, (now + seconds(), queue.pop(0)))
        now, started = heapq.heappop(working)
        answered += 1
        tuner.answered(now, now - started, full=active >= tuner.limit)
        active -= 1
        if answered == count // 2:
            half = now
    return (count - count // 2) / (now - half)


@pytest.mark.parametrize("slots", range(1, 17))
def test_a_server_gets_as_many_as_it_does_at_once(slots: int) -> None:
    tuner = Tuner.of(None, PATIENT)
    rate = simulate(tuner, slots, lambda: 2.0)
    # Answers that take equally long come in bursts, so its speed is not seen exactly.
    assert tuner.settled
    assert tuner.limit >= 0.8 * slots
    assert tuner.limit <= max(FIRST, 3 * slots), "more would only wait"
    assert 0.85 * slots / 2.0 < rate < 1.05 * slots / 2.0


@pytest.mark.parametrize("slots", range(1, 17))
def test_answers_of_different_lengths_do_not_lead_far_astray(slots: int) -> None:
    rates = []
    for seed in range(20):
        chance = random.Random(seed)
        tuner = Tuner.of(None, PATIENT)
        rates.append(simulate(tuner, slots, lambda c=chance: c.uniform(0.7, 1.3)) / slots)
    assert sum(rates) / len(rates) > 0.85
    assert min(rates) > 0.45


def test_a_wider_server_gets_no_more_than_the_most() -> None:
    tuner = Tuner.of(None, PATIENT)
    simulate(tuner, 100, lambda: 1.0)
    assert (tuner.limit, tuner.settled) == (MOST, True)


@pytest.mark.parametrize(
    ("timeout", "most"), [(120.0, 16), (20.0, 5), (8.0, 2), (6.0, 1), (1.0, 1)]
)
def test_no_request_waits_longer_than_half_of_its_time(timeout: float, most: int) -> None:
    """The server does one at a time, in 2 s, so the last of n requests waits 2n."""
    tuner = Tuner.of(None, timeout)
    longest = 0.0

    def seconds() -> float:
        nonlocal longest
        longest = max(longest, tuner.limit * 2.0)
        return 2.0

    simulate(tuner, 1, seconds)
    assert tuner.limit <= most
    assert longest <= max(2.0, timeout / 2)


def test_the_first_question_is_asked_alone_and_its_time_tells_nothing() -> None:
    """It may load the model, which takes minutes."""
    tuner = Tuner.of(None, 120.0)
    assert tuner.limit == 1
    tuner.answered(100.0, 100.0, full=True)
    assert tuner.limit == 1
    tuner.answered(101.0, 1.0, full=True)
    assert tuner.limit == FIRST
    assert not tuner.settled


def test_a_server_that_waits_for_work_is_not_measured() -> None:
    tuner = Tuner.of(None, PATIENT)
    for moment in range(100):
        tuner.answered(float(moment), 1.0, full=False)
    assert (tuner.limit, tuner.settled) == (FIRST, False)
    # Nor does the time count in which it waited.
    assert simulate(tuner, 16, lambda: 1.0) == pytest.approx(16, rel=0.05)


def test_a_busy_server_gets_half_as_many_for_good() -> None:
    tuner = Tuner.of(None, PATIENT)
    simulate(tuner, 16, lambda: 1.0)
    limits = []
    for _ in range(6):
        tuner.busy()
        limits.append(tuner.limit)
    assert limits == [8, 4, 2, 1, 1, 1]
    simulate(tuner, 16, lambda: 1.0)
    assert tuner.limit == 1


EVENTS = st.lists(
    st.one_of(st.just(None), st.tuples(st.floats(0, 1e3), st.floats(0, 1e3), st.booleans())),
    max_size=200,
)


def play(tuner: Tuner, events: list[tuple[float, float, bool] | None]) -> list[int]:
    now, limits = 0.0, [tuner.limit]
    for event in events:
        if event is None:
            tuner.busy()
        else:
            now += event[0]
            tuner.answered(now, event[1], full=event[2])
        limits.append(tuner.limit)
    return limits


@given(st.integers(1, 64), EVENTS)
def test_the_limit_of_a_person_never_changes(limit: int, events: list[object]) -> None:
    assert set(play(Tuner.of(limit, 120.0), events)) == {limit}  # type: ignore[arg-type]


@given(EVENTS, st.floats(0.001, 1e4))
def test_the_limit_is_always_one_to_the_most(events: list[object], timeout: float) -> None:
    limits = play(Tuner.of(None, timeout), events)  # type: ignore[arg-type]
    assert limits[0] == 1
    assert all(1 <= limit <= MOST for limit in limits)
    assert all(
        after <= max(FIRST, 2 * before) for before, after in zip(limits, limits[1:], strict=False)
    )
