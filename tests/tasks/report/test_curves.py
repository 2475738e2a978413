"""Line charts: axes that can be read, lines where the values are, and thinning that shows all."""

import math
import re

import numpy as np
import pytest

from tasks.report import curves
from tasks.report.curves import Curve, draw_chart, linear_axis, log_axis, number, thinned

PLOT_LEFT, PLOT_RIGHT = curves.LEFT, curves.WIDTH - curves.RIGHT
PLOT_TOP, PLOT_BOTTOM = curves.TOP, curves.HEIGHT - curves.BOTTOM


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


@pytest.mark.parametrize("low", [0.0, -3.0, 1e-5, 0.72, 999.0])
@pytest.mark.parametrize("span", [0.0, 1e-6, 0.013, 1.0, 47.0, 3e5])
def test_a_linear_axis_holds_its_values_between_round_ticks(low: float, span: float) -> None:
    axis = linear_axis(low, low + span)
    room = 1e-5 * (axis.ticks[1] - axis.ticks[0])
    assert axis.ticks[0] - room <= low and low + span <= axis.ticks[-1] + room
    assert 2 <= len(axis.ticks) <= 7
    steps = np.diff(axis.ticks)
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)
    digit = steps[0] / 10 ** math.floor(math.log10(steps[0] * 1.001))
    assert round(float(digit), 2) in (1, 2, 5)


@pytest.mark.parametrize("low", [1e-9, 0.003, 2.0])
@pytest.mark.parametrize("factor", [30, 1e3, 1e12])
def test_a_logarithmic_axis_has_a_few_ticks_at_even_places(low: float, factor: float) -> None:
    axis = log_axis(low, low * factor)
    assert 2 <= len(axis.ticks) <= 7
    assert all(low <= tick <= low * factor for tick in axis.ticks)
    middle = axis.y(math.sqrt(axis.low * axis.high))
    assert middle == pytest.approx((PLOT_TOP + PLOT_BOTTOM) / 2, abs=0.1)


def test_numbers_are_short() -> None:
    told = {0.0: "0", 0.01234: "0.0123", 1.5e-5: "1.5e-5", 12000.0: "12,000", -0.5: "-0.5"}
    told |= {1e-3: "0.001", 1e-4: "1e-4", 3e9: "3e9"}
    assert {value: number(value) for value in told} == told


def test_a_line_runs_from_the_first_to_the_newest_value() -> None:
    chart = draw_chart("x", [Curve(name="c", points=[(1, 0.0), (50, 4.0), (101, 1.0)])])
    assert chart is not None and not chart.is_log
    start, top, end = places(chart.lines[0].path)
    assert start == (PLOT_LEFT, PLOT_BOTTOM)
    assert top[1] == PLOT_TOP
    assert end[0] == PLOT_RIGHT
    assert end[1] == pytest.approx(PLOT_BOTTOM - (PLOT_BOTTOM - PLOT_TOP) / 4, abs=0.1)
    assert chart.lines[0].last == "1"
    assert [tick.label for tick in chart.x_ticks] == ["20", "40", "60", "80", "100"]
    assert [tick.label for tick in chart.y_ticks] == ["0", "1", "2", "3", "4"]


def test_values_far_apart_are_logarithmic_where_that_can_be() -> None:
    far, mixed = [(1, 0.01), (2, 5.0)], [(1, 0.0), (2, 5.0)]
    for points, may_be, is_log in ((far, True, True), (far, False, False), (mixed, True, False)):
        chart = draw_chart("x", [Curve(name="c", points=points)], may_be_log=may_be)
        assert chart is not None and chart.is_log == is_log


def test_one_point_is_a_dot_and_none_is_no_chart() -> None:
    assert draw_chart("x", [Curve(name="c", points=[])]) is None
    chart = draw_chart("x", [Curve(name="c", points=[(7, 0.5)])], marks=[7, 8])
    assert chart is not None
    first, second = places(chart.lines[0].path)
    assert first == second
    assert PLOT_LEFT < first[0] < PLOT_RIGHT and PLOT_TOP < first[1] < PLOT_BOTTOM
    assert chart.x_ticks[0].label == "7"
    assert first[0] in chart.marks


def test_curves_without_a_colour_are_counted() -> None:
    many = [Curve(name=str(place), points=[(1, 1.0), (2, 2.0)]) for place in range(11)]
    chart = draw_chart("x", many)
    assert chart is not None
    assert (len(chart.lines), chart.num_left_out) == (8, 3)


def test_thinning_keeps_what_can_be_seen() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal(100_000)
    values[31_007], values[77_777] = 90.0, -90.0
    points = list(zip(range(1, 100_001), values.tolist(), strict=True))
    kept = thinned(points, bins=100)
    assert len(kept) <= 400
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    assert kept[0] == points[0] and kept[-1] == points[-1]
    for column in range(100):
        inside = points[column * 1000 : (column + 1) * 1000]
        shown = [value for step, value in kept if inside[0][0] <= step <= inside[-1][0]]
        # Bins are not quite a thousand steps wide, so the outermost value may be a neighbour's.
        assert max(shown) >= np.quantile([value for _, value in inside], 0.99)
    assert (31_008, 90.0) in kept and (77_778, -90.0) in kept
    assert thinned(points[:400], bins=100) == points[:400]
