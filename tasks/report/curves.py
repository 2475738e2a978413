"""The geometry of line charts over steps; `curves.html` turns it into SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Point = tuple[float, float]

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 36
"""Margins in which labels stand."""
BINS = 180
"""Columns that the points of a curve are thinned to."""
LOG_FROM = 30.0
"""Values that differ by such a factor are drawn on a logarithmic axis."""
MAX_CURVES = 8
"""There are so many colours."""
_FEW, _MANY = 3, 7
"""Ticks of an axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What one line shows."""

    name: str
    points: Sequence[Point]
    """(step, value) in the order of steps; finite values only."""
    faint: bool = False
    """Drawn in the background of another curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place of an axis, in pixels."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve as it is drawn."""

    name: str
    colour: int
    """0 .. MAX_CURVES - 1."""
    faint: bool
    path: str
    """Of SVG, in pixels."""
    last: str
    """The newest value, for the legend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart as it is drawn, in pixels of WIDTH x HEIGHT."""

    title: str
    unit: str
    is_log: bool
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[float]
    """Where vertical lines stand."""
    lines: Sequence[Line]
    num_left_out: int
    """Curves for which there was no colour left."""


def draw_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    unit: str = "",
    may_be_log: bool = False,
    from_zero: bool = False,
    marks: Sequence[float] = (),
) -> Chart | None:
    """Lays a chart out; None where no curve has a point.

    Args:
        title: what is drawn.
        curves: of which the first MAX_CURVES are drawn.
        unit: of the values.
        may_be_log: a logarithmic axis where values differ by LOG_FROM.
        from_zero: the axis of the values begins at 0.
        marks: steps to be marked by a vertical line.
    """
    there = [curve for curve in curves if curve.points]
    shown = there[:MAX_CURVES]
    if not shown:
        return None
    steps = [step for curve in shown for step, _ in curve.points]
    values = [value for curve in shown for _, value in curve.points]
    is_log = may_be_log and min(values) > 0 and max(values) >= LOG_FROM * min(values)
    x_axis = _x_axis(min(steps), max(steps))
    y_axis = log_axis(min(values), max(values)) if is_log else _y_axis(values, from_zero)
    return Chart(
        title=title,
        unit=unit,
        is_log=is_log,
        x_ticks=[Tick(at=x_axis.x(value), label=number(value)) for value in x_axis.ticks],
        y_ticks=[Tick(at=y_axis.y(value), label=number(value)) for value in y_axis.ticks],
        marks=[x_axis.x(mark) for mark in marks if x_axis.low <= mark <= x_axis.high],
        lines=[_line(curve, place, x_axis, y_axis) for place, curve in enumerate(shown)],
        num_left_out=len(there) - len(shown),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From values to pixels of the chart."""

    low: float
    high: float
    ticks: Sequence[float]
    is_log: bool = False

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * self._share(value), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self._share(value), 1)

    def _share(self, value: float) -> float:
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float) -> Axis:
    """An axis that begins and ends at a tick; ticks are multiples of 1, 2 or 5 times 10^n."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) / 2 or 1.0
        low, high = low - room, high + room
    step = _round_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    ticks = [round(place * step, 12 - _magnitude(step)) for place in range(first, last + 1)]
    return Axis(low=ticks[0], high=ticks[-1], ticks=ticks)


def log_axis(low: float, high: float) -> Axis:
    """A logarithmic axis for positive values; ticks are powers of ten, or 1, 2 and 5 of each."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 5), (1,)):
        values = [digit * 10.0**power for power in powers for digit in digits]
        ticks = [value for value in values if low <= value <= high]
        if len(ticks) <= _MANY:
            break
    every = -(-len(ticks) // _MANY)
    return Axis(low=low / 1.08, high=high * 1.08, ticks=ticks[::every], is_log=True)


def thinned(points: Sequence[Point], bins: int = BINS) -> list[Point]:
    """Of each column its first, lowest, highest and newest point: lines look as with all of them.

    This is M4 of Jugel, Jerzak, Hackenbroich and Markl, "M4: A Visualization-Oriented Time Series
    Data Aggregation", VLDB 2014.

    Args:
        points: (step, value) in the order of steps.
        bins: columns of equal width; few points stay as they are.
    """
    if len(points) <= 4 * bins:
        return list(points)
    return [point for column in _columns(points, bins) for point in _outline(column)]


def number(value: float) -> str:
    """A number for people, of three digits: 0.0123, 1.5e-5, 12,000."""
    size = abs(value)
    if 1000 <= size < 1e7:
        return f"{value:,.0f}"
    if size and not 1e-3 <= size < 1e7:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.3g}"


def _x_axis(low: float, high: float) -> Axis:
    """Steps from the first to the newest; ticks are whole numbers inside."""
    if high <= low:
        return Axis(low=low - 1, high=high + 1, ticks=[low])
    step = max(1.0, _round_step((high - low) / 5))
    first, last = math.ceil(low / step), math.floor(high / step)
    return Axis(low=low, high=high, ticks=[place * step for place in range(first, last + 1)])


def _y_axis(values: Sequence[float], from_zero: bool) -> Axis:
    low = min(0.0, *values) if from_zero else min(values)
    high = max(values)
    return linear_axis(low, high if high > low or not from_zero else low + 1.0)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 or 5 times 10^n that is at least so much."""
    power = 10.0 ** _magnitude(least)
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))


def _magnitude(value: float) -> int:
    return math.floor(math.log10(value))


def _line(curve: Curve, place: int, x_axis: Axis, y_axis: Axis) -> Line:
    points = [(x_axis.x(step), y_axis.y(value)) for step, value in thinned(curve.points)]
    # A line to itself is drawn as a dot, so that a single point can be seen.
    ends = [*points, points[0]] if len(points) == 1 else points
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in ends)
    last = number(curve.points[-1][1])
    return Line(name=curve.name, colour=place, faint=curve.faint, path=path, last=last)


def _columns(points: Sequence[Point], bins: int) -> Iterator[list[Point]]:
    low, high = points[0][0], points[-1][0]
    column: list[Point] = []
    now = 0
    for point in points:
        place = min(bins - 1, int((point[0] - low) / (high - low) * bins))
        if place != now and column:
            yield column
            column = []
        now = place
        column.append(point)
    yield column


def _outline(column: Sequence[Point]) -> list[Point]:
    lowest = min(column, key=lambda point: point[1])
    highest = max(column, key=lambda point: point[1])
    return sorted({column[0], lowest, highest, column[-1]})
