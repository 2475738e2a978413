"""Augmentation: the values drawn for one variation of a view, and what they do to its pixels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.config.concepts import ImageConfig

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

Values = Mapping[str, bool | float]
"""Resolved values of one sample: `flip`, `rotate` (degrees), `brightness`, `contrast`, `saturation`
(factors) and `hue` (part of the colour circle). What changes nothing is left out."""


def draw_augmentation(
    settings: ImageConfig, seed: int, view_key: bytes, variation: int
) -> dict[str, bool | float]:
    """The values of one variation of a view, a function of the seed, the view and its number."""
    return {}


def augment(pixels: "Pixels", values: Values) -> "Pixels":
    """The pixels of a view with its augmentation applied."""
    return pixels
