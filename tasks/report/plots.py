"""The geometry of the report's plots; `plots.html` turns it into SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.report.inputs import Ints

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34
"""Margins in which labels stand."""
BINS = 56
_LEAST_RADIUS, _MORE_RADIUS = 4.0, 6.0
NEAR = 2
"""Training resolutions are drawn when they are within so many octaves of some source."""
_RATIOS = ((1, 4), (1, 3), (1, 2), (2, 3), (1, 1), (3, 2), (2, 1), (3, 1), (4, 1))


def resolution_plot(width: Ints, height: Ints, resolutions: Sequence[int]) -> dict[str, Any] | None:
    """Sources by width and height on logarithmic axes, near ones as one dot; None for no sources.

    A line marks the sizes with as many pixels as each training resolution: below it, full images
    are enlarged.
    """
    known = (width > 0) & (height > 0)
    if not known.any():
        return None
    x, y = np.log2(width[known]), np.log2(height[known])
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    near = [edge for edge in resolutions if low - NEAR < math.log2(edge) < high + NEAR]
    low = min([low, *map(math.log2, near)]) - 0.4
    high = max([high, *map(math.log2, near)]) + 0.4
    step = (high - low) / BINS
    cells = np.stack([(x - low) // step, (y - low) // step], axis=1).astype(np.int64)
    _, which, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    centre_x = np.bincount(which.reshape(-1), x) / counts
    centre_y = np.bincount(which.reshape(-1), y) / counts
    scale = _Scale(low, high)
    return {
        "dots": _dots(scale, centre_x, centre_y, counts),
        "ticks": [
            {"at_x": scale.x(power), "at_y": scale.y(power), "label": f"{2**power:,}"}
            for power in range(math.ceil(low), math.floor(high) + 1)
        ],
        "areas": [
            {"label": f"{resolution}²", **scale.diagonal(2 * math.log2(resolution))}
            for resolution in near
        ],
    }


def _dots(scale: "_Scale", x: Floats, y: Floats, counts: Ints) -> list[dict[str, Any]]:
    """One dot per cell, at the middle of its sources, as large as they are many."""
    most = max(1, int(counts.max()) - 1)
    return [
        {
            "x": scale.x(cx),
            "y": scale.y(cy),
            "r": round(_LEAST_RADIUS + _MORE_RADIUS * math.sqrt((count - 1) / most), 2),
            "title": f"{count:,} source{'' if count == 1 else 's'} of about "
            f"{2**cx:,.0f}×{2**cy:,.0f} pixels",
        }
        for cx, cy, count in zip(x, y, counts, strict=True)
    ]


def aspect_plot(
    width: Ints, height: Ints, buckets: Sequence[tuple[int, int]]
) -> dict[str, Any] | None:
    """Sources by aspect ratio from 1:4 to 4:1, with the borders between buckets; None for none."""
    known = (width > 0) & (height > 0)
    if not known.any():
        return None
    ratio = np.clip(np.log2(width[known] / height[known]), -2, 2)
    numbers = np.minimum(((ratio + 2) / 4 * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(numbers, minlength=BINS)
    scale = _Scale(-2, 2)
    room = HEIGHT - TOP - BOTTOM
    size = (WIDTH - LEFT - RIGHT) / BINS
    bars = [
        {
            "x": round(LEFT + number * size + 0.5, 2),
            "y": round(HEIGHT - BOTTOM - room * counts[number] / counts.max(), 2),
            "width": round(size - 1, 2),
            "height": round(room * counts[number] / counts.max(), 2),
            "title": f"{counts[number]:,} source{'' if counts[number] == 1 else 's'} of about "
            f"{2 ** ((number + 0.5) / BINS * 4 - 2):.2f}:1",
        }
        for number in np.flatnonzero(counts).tolist()
    ]
    return {
        "bars": bars,
        "most": int(counts.max()),
        "ticks": [
            {"at": scale.x(math.log2(wide / tall)), "label": f"{wide}:{tall}"}
            for wide, tall in _RATIOS
        ],
        "borders": [scale.x(border) for border in bucket_borders(buckets)],
    }


def bucket_borders(buckets: Sequence[tuple[int, int]]) -> list[float]:
    """log2(width / height) between neighbouring buckets: where an image changes its bucket.

    A bucket is chosen by the nearest height / width, so borders are in the middle of those.
    """
    slopes = sorted({height / width for width, height in buckets})
    middles = [(one + other) / 2 for one, other in zip(slopes, slopes[1:], strict=False)]
    return sorted(-math.log2(middle) for middle in middles if 1 / 4 < middle < 4)


def training_resolutions(rows: pa.Table) -> list[int]:
    """The edge of the square with as many pixels as the full images of each resolution have."""
    full = rows.filter(pc.equal(rows["kind"], "full"))
    if not full.num_rows:
        return []
    area = pc.multiply(pc.cast(full["bucket_width"], pa.int64()), full["bucket_height"])
    table = pa.table({"resolution": full["resolution_index"], "area": area})
    mean = table.group_by("resolution").aggregate([("area", "mean")])["area_mean"]
    edges = [math.sqrt(area) for area in mean.to_pylist()]
    # Buckets round their sides, so that their area is only nearly the wanted one.
    return sorted({round(edge / 64) * 64 if edge > 128 else round(edge) for edge in edges})


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a logarithm within low .. high to pixels of the plot."""

    low: float
    high: float

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(float(LEFT + (WIDTH - LEFT - RIGHT) * share), 2)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(float(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share), 2)

    def diagonal(self, total: float) -> dict[str, float]:
        """The line x + y = total, inside of the plot."""
        start, end = max(self.low, total - self.high), min(self.high, total - self.low)
        return {
            "x1": self.x(start),
            "y1": self.y(total - start),
            "x2": self.x(end),
            "y2": self.y(total - end),
        }
