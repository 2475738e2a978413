"""Augmentation options of a test project, and what the rows of a dataset say of them."""

import json
from typing import Any

from tests.projects import Prepared

PHOTOS = 6
TILES = 12
NO_TILES = "concepts.0.image.detail_crops.enabled=false"
IMAGE = "concepts.0.image."
STRENGTHS = {
    "rotate": ("random_rotate_max_angle", 20.0),
    "brightness": ("random_brightness_max_strength", 0.3),
    "contrast": ("random_contrast_max_strength", 0.3),
    "saturation": ("random_saturation_max_strength", 0.3),
    "hue": ("random_hue_max_strength", 0.4),
}


def options(effect: str, kind: str) -> list[str]:
    """Overrides that switch one effect on (`kind`: random or fixed), at the strengths above."""
    chosen = [f"{IMAGE}enable_{kind}_{effect}=true"]
    if effect in STRENGTHS:
        name, strength = STRENGTHS[effect]
        chosen.append(f"{IMAGE}{name}={strength}")
    return chosen


def rows_of(prepared: Prepared) -> list[dict[str, Any]]:
    return prepared.rows.to_pylist()


def drawn(row: dict[str, Any]) -> dict[str, Any]:
    """The resolved augmentation of a row."""
    values: dict[str, Any] = json.loads(row["augmentation"] or "{}")
    return values
