"""Learning-rate schedules: the share of the peak rate at a step, a pure function of the step.

Because nothing is accumulated, a resumed run needs no scheduler state. Formulas are those of
transformers' schedules and OneTrainer's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.config.schedules import Schedule

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A step after the warm-up."""

    step: int
    """From the start of the run."""
    warmup: int
    """Steps before the schedule begins."""
    progress: float
    """Share of the schedule that is over, 0 to 1."""


def constant(point: Point, schedule: Schedule) -> float:
    """The peak rate throughout."""
    return 1.0


def linear(point: Point, schedule: Schedule) -> float:
    """Falls in a straight line from 1 to 0."""
    return 1.0 - point.progress


def cosine(point: Point, schedule: Schedule) -> float:
    """Falls from 1 to 0 along half a cosine wave."""
    return _wave(point.progress)


def cosine_with_restarts(point: Point, schedule: Schedule) -> float:
    """Falls to 0 along a cosine wave that rises to 1 again `cycles` times."""
    return _wave(point.progress * (2.0 * schedule.cycles + 1.0))


def cosine_with_hard_restarts(point: Point, schedule: Schedule) -> float:
    """Falls from 1 to 0 along half a cosine wave, `cycles` times."""
    return _wave(point.progress * schedule.cycles % 1.0) if point.progress < 1.0 else 0.0


def rex(point: Point, schedule: Schedule) -> float:
    """Falls slowly at first and fast at the end: REX (Chen et al. 2021), with OneTrainer's 0.9."""
    left = 1.0 - point.progress
    return left / (0.1 + 0.9 * left)


def polynomial(point: Point, schedule: Schedule) -> float:
    """A power of what is left."""
    return math.pow(1.0 - point.progress, schedule.power)


def inverse_sqrt(point: Point, schedule: Schedule) -> float:
    """Falls as 1 / sqrt(steps), in units of the warm-up, or of 10,000 steps without one."""
    unit = point.warmup or 10_000
    return 1.0 / math.sqrt((point.step + unit - point.warmup) / unit)


def adafactor(point: Point, schedule: Schedule) -> float:
    """Adafactor's relative step: 10,000 steps at 1, then 1 / sqrt(steps).

    With a learning rate of 0.01 these are the rates of Shazeer and Stern 2018; 10,000 steps of
    warm-up are their `warmup_init`.
    """
    return min(1.0, 100.0 / math.sqrt(point.step + 1))


SCHEDULES: dict[str, Callable[[Point, Schedule], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "cosine_with_hard_restarts": cosine_with_hard_restarts,
    "rex": rex,
    "polynomial": polynomial,
    "inverse_sqrt": inverse_sqrt,
    "adafactor": adafactor,
}
_WITHOUT_FLOOR = ("constant", "custom")


def rate_factor(
    schedule: Schedule, step: int, total_steps: int, learning_rate: float = 1.0, epochs: int = 1
) -> float:
    """Share of the peak learning rate that step `step` (from 0) of `total_steps` trains with.

    The first step of a warm-up trains with 1 / steps, not with 0 as in transformers, which wastes
    it. `learning_rate` and `epochs` only matter to custom schedules that ask for them.

    Raises:
        ValueError: a custom schedule cannot be used.
    """
    warmup = warmup_steps(schedule, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    length = max(total_steps - warmup, 1)
    if schedule.kind == "custom":
        from tasks.train.custom_schedules import Numbers, custom_factor

        numbers = Numbers(learning_rate, epochs, total_steps, length)
        return custom_factor(schedule, step - warmup, numbers)
    progress = min((step - warmup) / length, 1.0)
    share = SCHEDULES[schedule.kind](Point(step=step, warmup=warmup, progress=progress), schedule)
    floor = 0.0 if schedule.kind in _WITHOUT_FLOOR else schedule.min_factor
    return floor + (1.0 - floor) * share


def warmup_steps(schedule: Schedule, total_steps: int) -> int:
    """Steps in which the rate rises."""
    return schedule.warmup_steps or round(schedule.warmup_fraction * total_steps)


def set_group_rates(optimizer: "Optimizer", rates: Mapping[str, float]) -> None:
    """Sets the rate of every parameter group from that of its part, by name.

    A part that is not in `rates` has no gradients any more; it gets a rate all the same, since
    optimizers that find one rate for all parts read it from their first group.
    """
    for group in optimizer.param_groups:
        rate = rates.get(group["name"], max(rates.values(), default=0.0))
        group["lr"] = rate * group.get("share", 1.0)


def _wave(half_waves: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * half_waves))
