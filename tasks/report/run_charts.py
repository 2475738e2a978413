"""The charts of a training run: what is drawn of its history, and how."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from tasks.report.curves import Chart, Curve, Point, draw_chart
from tasks.report.run_history import Event, History, Step

MAX_STRETCHES = 120
"""Speed is told of so many stretches of steps at most: single steps say little."""
T = TypeVar("T")


def run_charts(history: History) -> list[Chart]:
    """All charts for which there is something to show."""
    validation = [validation_chart(history), timestep_chart(history)]
    charts = [loss_chart(history), *validation, *_step_charts(history)]
    return [chart for chart in charts if chart is not None]


def loss_chart(history: History) -> Chart | None:
    """The loss of every step, in the background of the smoothed one; None before the first."""
    curves = [
        _curve("smoothed", history.steps, lambda step: step.smoothed_loss),
        _curve("each step", history.steps, lambda step: step.loss, faint=True),
    ]
    return draw_chart("Loss", curves, may_be_log=True, marks=history.resumed_at)


def wait_share(steps: Iterable[Step]) -> float:
    """The share of the time, 0 to 1, that steps waited for data."""
    found = [(step.wait_seconds, step.seconds) for step in steps]
    seconds = sum(one for _, one in found)
    return sum(waited for waited, _ in found) / seconds if seconds else 0.0


def samples_per_second(steps: Iterable[Step]) -> float:
    """How many samples steps trained in a second, on the whole."""
    found = [(step.samples_per_second * step.seconds, step.seconds) for step in steps]
    seconds = sum(one for _, one in found)
    return sum(samples for samples, _ in found) / seconds if seconds else 0.0


def validation_chart(history: History) -> Chart | None:
    """The loss on held-out rows, by concept; None where none was measured."""
    found = history.validations
    names = dict.fromkeys(name for one in found.values() for name in one["by_concept"])
    curves = [_curve(name, found, _concept(name)) for name in names]
    if len(names) > 1:
        curves.insert(0, _curve("all", found, lambda one: one["loss"]))
    title = "Validation loss by concept"
    return draw_chart(title, curves, may_be_log=True, marks=history.resumed_at)


def timestep_chart(history: History) -> Chart | None:
    """The loss on held-out rows, by equal parts of the schedule; None where none was measured."""
    found = history.validations
    # A resumed run may measure another number of parts: those of before mean other timesteps.
    number = max((len(one["by_quantile"]) for one in found.values()), default=0)
    alike = {step: one for step, one in found.items() if len(one["by_quantile"]) == number}
    curves = [
        _curve(f"{part / number:.0%} – {(part + 1) / number:.0%}", alike, _quantile(part))
        for part in range(number)
    ]
    title = "Validation loss by timestep (0% is clean)"
    return draw_chart(title, curves, may_be_log=True, marks=history.resumed_at)


def _step_charts(history: History) -> list[Chart | None]:
    steps, marks = history.steps, history.resumed_at
    parts = dict.fromkeys(name for step in steps.values() for name in step.learning_rates)
    rates = [_curve(name, steps, _rate(name)) for name in parts]
    norm = [_curve("gradient norm", steps, lambda step: step.grad_norm)]
    speed = [_stretches("speed", steps, samples_per_second)]
    wait = [_stretches("waiting", steps, lambda some: 100 * wait_share(some))]
    return [
        draw_chart("Learning rate", rates, from_zero=True, marks=marks),
        draw_chart("Gradient norm before clipping", norm, may_be_log=True, marks=marks),
        draw_chart("Speed", speed, unit="samples per second", from_zero=True, marks=marks),
        draw_chart("Waiting for data", wait, unit="% of the time", from_zero=True, marks=marks),
    ]


def _curve(
    name: str, found: Mapping[int, T], value: Callable[[T], float | None], *, faint: bool = False
) -> Curve:
    """What is known and finite of a value, by step."""
    values = ((step, value(found[step])) for step in sorted(found))
    points: list[Point] = [
        (step, one) for step, one in values if one is not None and math.isfinite(one)
    ]
    return Curve(name=name, points=points, faint=faint)


def _stretches(name: str, steps: Mapping[int, Step], value: Callable[[list[Step]], float]) -> Curve:
    """A value of each stretch of steps, at its last step."""
    ordered = sorted(steps)
    size = -(-len(ordered) // MAX_STRETCHES) or 1
    parts = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    points = [(part[-1], value([steps[step] for step in part])) for part in parts]
    return Curve(name=name, points=points)


def _concept(name: str) -> Callable[[Event], float | None]:
    return lambda one: one["by_concept"].get(name)


def _quantile(part: int) -> Callable[[Event], float | None]:
    return lambda one: one["by_quantile"][part]


def _rate(part: str) -> Callable[[Step], float | None]:
    return lambda step: step.learning_rates.get(part)
