"""Measures that tell an empty tile (sky, wall) from one worth training on."""

from typing import TYPE_CHECKING

import numpy as np

from tasks.imaging.resize import Box, resize

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

_CANNY_LOW, _CANNY_HIGH = 100, 200


def measure(tile: "Pixels") -> tuple[float, float]:
    """(standard deviation of luma on a 0..1 scale, share of Canny edge pixels) of RGB or luma."""
    import cv2

    luma = tile if tile.ndim == 2 else _luma(tile)
    _, deviation = cv2.meanStdDev(luma)
    # The gradient that Canny would take itself, by a function that is quicker at it.
    slopes = cv2.spatialGradient(luma, borderType=cv2.BORDER_REPLICATE)
    edges = cv2.Canny(*slopes, _CANNY_LOW, _CANNY_HIGH)
    return float(deviation[0, 0]) / 255, cv2.countNonZero(edges) / luma.size


def resized_luma(image: "Pixels", width: int, height: int, box: Box | None = None) -> "Pixels":
    """(height, width) luma of RGB pixels as `resize` gives them.

    For measuring only: the luma of a source is taken once, not of each of its overlapping tiles.
    """
    return _luma(resize(image, width, height, box))


def is_blank(
    luma_std: float, edge_share: float, std_threshold: float, edge_threshold: float
) -> str | None:
    """Why a tile with these measures counts as blank, or None; a threshold of 0 is no test."""
    if luma_std < std_threshold:
        return f"blank: luma std {luma_std:.4f} < blank_std_threshold {std_threshold:g}"
    if edge_share < edge_threshold:
        return f"blank: edge share {edge_share:.4f} < blank_edge_threshold {edge_threshold:g}"
    return None


def _luma(pixels: "Pixels") -> "Pixels":
    import cv2

    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
