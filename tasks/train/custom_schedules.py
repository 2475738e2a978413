"""Schedules that a person names: a scheduler class of torch, or a function of their own.

A function gets the step and is pure. A class is run from its first step on an optimizer that
trains nothing, so a resumed run sees the same rates and no scheduler state is saved.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from tasks.config.schedules import PLACEHOLDERS, Schedule


class Numbers(NamedTuple):
    """What placeholders in `params` stand for."""

    learning_rate: float
    epochs: int
    total_steps: int
    """Of the run."""
    scheduler_steps: int
    """After the warm-up."""

    def value(self, placeholder: str) -> float:
        """The number that a placeholder such as %LR% stands for."""
        return {
            "%LR%": self.learning_rate,
            "%EPOCHS%": self.epochs,
            "%STEPS_PER_EPOCH%": max(round(self.total_steps / self.epochs), 1),
            "%TOTAL_STEPS%": self.total_steps,
            "%SCHEDULER_STEPS%": self.scheduler_steps,
        }[placeholder]


def custom_factor(schedule: Schedule, step: int, numbers: Numbers) -> float:
    """Share of the peak rate at `step` (from 0, after the warm-up).

    Raises:
        ValueError: there is no such class or function, or it does not fit.
    """
    params = {name: _filled(value, numbers) for name, value in schedule.params.items()}
    named = find(schedule.function or "")
    try:
        if not isinstance(named, type):
            return float(named(step, numbers.scheduler_steps, **params))
        replay = _replay(named, json.dumps(params, sort_keys=True), numbers.learning_rate)
        return replay.factor(step)
    except TypeError as error:
        raise ValueError(f"train.schedule.function = {schedule.function!r}: {error}") from error


def find(name: str) -> Any:
    """The object at `module:name`; ValueError when there is none."""
    module, attribute = name.split(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"train.schedule.function = {name!r} cannot be imported: {error}. Its module must be "
            "installed, or in a folder of PYTHONPATH."
        ) from error


class Replay:
    """The rates of a scheduler class, from its first step to the farthest one asked for."""

    def __init__(self, kind: Any, params: Mapping[str, Any], learning_rate: float) -> None:
        import torch

        weight = torch.nn.Parameter(torch.zeros(1))
        self._learning_rate = learning_rate
        self._optimizer = torch.optim.SGD([weight], lr=learning_rate)
        self._scheduler = kind(self._optimizer, **params)
        self._factors = [self._factor()]

    def factor(self, step: int) -> float:
        """Share of the peak rate after `step` steps of the scheduler."""
        while len(self._factors) <= step:
            self._optimizer.step()
            self._scheduler.step()
            self._factors.append(self._factor())
        return self._factors[step]

    def _factor(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"]) / self._learning_rate


@lru_cache(maxsize=8)
def _replay(kind: Any, params: str, learning_rate: float) -> Replay:
    return Replay(kind, json.loads(params), learning_rate)


def _filled(value: Any, numbers: Numbers) -> Any:
    is_placeholder = isinstance(value, str) and value in PLACEHOLDERS
    return numbers.value(value) if is_placeholder else value
