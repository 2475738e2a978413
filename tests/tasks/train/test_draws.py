import math

from tasks.config.optimizers import Schedule
from tasks.train.schedules import rate_factor


def test_schedules_warm_up_and_fall_to_their_floor():
    cosine = Schedule(kind="cosine", warmup_steps=4, min_factor=0.1)
    rates = [rate_factor(cosine, step, 104) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert math.isclose(rates[54], 0.5)
    assert min(rates[4:]) == rates[-1] == 0.1
    linear = Schedule(kind="linear")
    assert [rate_factor(linear, step, 4) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    constant = Schedule(warmup_steps=2)
    assert [rate_factor(constant, step, 5) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
