"""Learning-rate schedules: the share of the peak rate at a step, a pure function of the step.

Because nothing is accumulated, a resumed run needs no scheduler state.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.config.optimizers import Schedule

if TYPE_CHECKING:
    from torch.optim import Optimizer


def constant(progress: float) -> float:
    """The peak rate throughout."""
    return 1.0


def linear(progress: float) -> float:
    """Falls in a straight line from 1 to 0."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Falls from 1 to 0 along half a cosine wave."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
}


def rate_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """Share of the peak learning rate that step `step` (from 0) of `total_steps` trains with."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    after = max(total_steps - schedule.warmup_steps, 1)
    progress = min((step - schedule.warmup_steps) / after, 1.0)
    return max(SCHEDULES[schedule.kind](progress), _floor(schedule))


def set_learning_rate(optimizer: "Optimizer", rate: float) -> None:
    """Sets the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _floor(schedule: Schedule) -> float:
    return 0.0 if schedule.kind == "constant" else schedule.min_factor
