"""Units of OneTrainer's: `backup_after` with `backup_after_unit`, and the like."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tasks.onetrainer.rows import Answer, Left, Put, Row, View

UNITS = {"STEP": "step", "EPOCH": "epoch", "MINUTE": "minute"}
MINUTES = {"SECOND": 1 / 60, "MINUTE": 1.0, "HOUR": 60.0}


@dataclass(frozen=True, slots=True)
class Span:
    """A number of our units."""

    n: int
    unit: str
    note: str = ""


def optimizer_steps(value: float, view: View) -> tuple[int, str]:
    """(a number of OneTrainer's steps, which are batches, in optimizer steps, a note)."""
    batches = int(view["gradient_accumulation_steps"])
    if batches <= 1:
        return int(value), ""
    return max(1, int(value / batches)), f"was {value:g} batches; steps are optimizer steps here"


def span(value: float, unit: str, view: View) -> Span:
    """A number with a unit of OneTrainer's as one of ours; ValueError for an unknown unit."""
    if unit == "STEP":
        steps, note = optimizer_steps(value, view)
        return Span(max(1, steps), "step", note)
    if unit == "EPOCH":
        return Span(max(1, int(value)), "epoch")
    if unit not in MINUTES:
        raise ValueError(f"{unit} is no unit of OneTrainer's")
    minutes = float(value) * MINUTES[unit]
    note = "" if unit == "MINUTE" else f"was {value:g} {unit.lower()}s"
    return Span(max(1, round(minutes)), "minute", note)


def stop_after(value: Any, unit: str, view: View) -> Span | Left | None:
    """When a part stops training; None: never, or not before the run ends."""
    if not value or unit == "NEVER" or (unit == "EPOCH" and value >= view["epochs"]):
        return None
    found = span(value, unit, view)
    if found.unit == "minute":
        return Left("different", "a part stops after epochs or steps, not after minutes")
    return found


def cadence(key: str, default: int, unit_key: str) -> Row:
    """How often something happens, whose unit stands under another key."""

    def convert(value: Any, view: View) -> Iterable[Answer]:
        unit = str(view[unit_key])
        if unit == "NEVER" or value <= 0:
            return [Put(f"{key}.every", 0)]
        found = Span(1, "step") if unit == "ALWAYS" else span(value, unit, view)
        return [
            Put(f"{key}.every", found.n, found.note, always=True),
            Put(f"{key}.unit", found.unit, always=True),
        ]

    return Row(default, convert)


def skip_first(key: str, every_key: str, unit_key: str) -> Row:
    """How often at the start something is left out: OneTrainer counts units, we count times."""

    def convert(value: Any, view: View) -> Iterable[Answer]:
        every, unit = view[every_key], str(view[unit_key])
        if value <= 0 or every <= 0 or unit in ("NEVER", "ALWAYS"):
            return []
        # It happens again when so many units are over, and that time counts.
        times = max(0, math.ceil(value / every) - 1)
        note = f"was {value:g} {unit.lower()}s; here it counts times"
        return [Put(f"{key}.skip_first", times, note)]

    return Row(0, convert)
