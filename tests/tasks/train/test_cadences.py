import pytest

from tasks.config.cadences import Cadence
from tasks.train.loop import Moment, is_due
from tasks.train.state import Progress


def due(cadence, moments, skip_first=0):
    pairs = zip(moments, moments[1:], strict=False)
    return [number for number, (a, b) in enumerate(pairs, 1) if is_due(cadence, a, b, skip_first)]


def steps(count, per_epoch=4, minutes_per_step=0.0):
    return [
        Moment(
            Progress(step=n, epoch=n // per_epoch, step_in_epoch=n % per_epoch),
            n * minutes_per_step,
        )
        for n in range(count + 1)
    ]


@pytest.mark.parametrize(
    ("cadence", "skip_first", "expected"),
    [
        (Cadence(every=0), 0, []),
        (Cadence(every=3), 0, [3, 6, 9, 12]),
        (Cadence(every=3), 2, [9, 12]),
        (Cadence(every=1, unit="epoch"), 0, [4, 8, 12]),
        (Cadence(every=2, unit="epoch"), 0, [8]),
        (Cadence(every=1, unit="epoch"), 1, [8, 12]),
    ],
)
def test_steps_and_epochs(cadence, skip_first, expected):
    assert due(cadence, steps(12), skip_first) == expected


def test_minutes_come_once_each_however_long_a_step_takes():
    assert due(Cadence(every=1, unit="minute"), steps(8, minutes_per_step=0.4)) == [3, 5, 8]
    assert due(Cadence(every=1, unit="minute"), steps(3, minutes_per_step=2.5)) == [1, 2, 3]
    assert due(Cadence(every=1, unit="minute"), steps(8, minutes_per_step=0.4), 1) == [5, 8]
