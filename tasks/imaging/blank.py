"""Measures that tell an empty tile (sky, wall) from one worth training on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

_CANNY_LOW, _CANNY_HIGH = 100, 200


def measure(tile: "Pixels") -> tuple[float, float]:
    """(standard deviation of luma on a 0..1 scale, share of Canny edge pixels) of RGB pixels."""
    import cv2

    luma = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    _, deviation = cv2.meanStdDev(luma)
    edges = cv2.Canny(luma, _CANNY_LOW, _CANNY_HIGH)
    return float(deviation[0, 0]) / 255, cv2.countNonZero(edges) / luma.size


def is_blank(
    luma_std: float, edge_share: float, std_threshold: float, edge_threshold: float
) -> str | None:
    """Why a tile with these measures counts as blank, or None; a threshold of 0 is no test."""
    if luma_std < std_threshold:
        return f"blank: luma std {luma_std:.4f} < blank_std_threshold {std_threshold:g}"
    if edge_share < edge_threshold:
        return f"blank: edge share {edge_share:.4f} < blank_edge_threshold {edge_threshold:g}"
    return None
