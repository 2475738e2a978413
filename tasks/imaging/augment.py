"""Augmentation: the values drawn for one variation of a view, and what they do to its pixels.

The effects are OneTrainer's, in its order: flip, rotate, brightness, contrast, saturation, hue. The
colours are computed as torchvision's functional operations define them, in floating point,
clamped after each step and rounded once at the end.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from storage.digest import digest
from tasks.config.concepts import ImageConfig

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

    Colours = npt.NDArray[np.float32]
    """(height, width, 3) RGB, 0..1."""

Values = Mapping[str, bool | float]
"""Resolved values of one sample: `flip`, `rotate` (degrees), `brightness`, `contrast`, `saturation`
(factors) and `hue` (part of the colour circle). What changes nothing is left out."""

IDENTITY = {"rotate": 0.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
MOVES = ("flip", "rotate")
"""The effects that move pixels; masks take these and leave the colours out."""
_LUMA = (0.2989, 0.587, 0.114)  # as torchvision weighs red, green and blue


def draw_augmentation(
    settings: ImageConfig, seed: int, view_key: bytes, variation: int
) -> dict[str, bool | float]:
    """The values of one variation of a view, a function of the seed, the view and its number.

    Each effect has a draw of its own, so that switching one on moves none of the others.
    """

    def share(effect: str) -> float:
        drawn = digest("augmentation", seed, effect, view_key, variation)
        return int.from_bytes(drawn[:8], "big") / 2**64

    values: dict[str, bool | float] = {}
    if share("flip") < 0.5 if settings.enable_random_flip else settings.enable_fixed_flip:
        values["flip"] = True
    for effect, (is_random, is_fixed, strength) in _strengths(settings).items():
        if is_random:
            strength *= 2 * share(effect) - 1
        elif not is_fixed:
            continue
        value = round(_value(effect, strength), 6)
        if value != IDENTITY[effect]:
            values[effect] = value
    return values


def augment(pixels: "Pixels", values: Values) -> "Pixels":
    """(height, width, 3) uint8 RGB pixels with their augmentation applied; `pixels` stay as given.

    What a rotation brings in from outside is the mirrored image, not black: black corners would be
    learnt as part of the pictures, and a cut-out without them would lose the bucket's shape.
    Sides are at least 2 pixels: a single one has no mirror, and OpenCV looks for it for ever.
    """
    import cv2

    pixels = _moved(pixels, values, cv2.INTER_CUBIC)
    if not values.keys() & {"brightness", "contrast", "saturation", "hue"}:
        return pixels
    colours: Colours = np.divide(pixels, np.float32(255))
    if "brightness" in values:
        colours = _blend(colours, 0.0, values["brightness"])
    if "contrast" in values:
        # A mean in float64 does not depend on how the sum is split.
        mean = float(_grey(colours).mean(dtype=np.float64))
        colours = _blend(colours, mean, values["contrast"])
    if "saturation" in values:
        colours = _blend(colours, _grey(colours)[..., None], values["saturation"])
    if "hue" in values:
        colours = _turned_hue(colours, values["hue"])
    return np.rint(colours * 255).astype(np.uint8)


def augment_mask(mask: "Pixels", values: Values) -> "Pixels":
    """A (height, width) uint8 mask moved as `augment` moves the pixels; colours leave it alone."""
    import cv2

    return _moved(mask, values, cv2.INTER_LINEAR)


def _strengths(settings: ImageConfig) -> dict[str, tuple[bool, bool, float]]:
    """(random, fixed, strength) of every effect that has one."""
    return {
        "rotate": (
            settings.enable_random_rotate,
            settings.enable_fixed_rotate,
            settings.random_rotate_max_angle,
        ),
        "brightness": (
            settings.enable_random_brightness,
            settings.enable_fixed_brightness,
            settings.random_brightness_max_strength,
        ),
        "contrast": (
            settings.enable_random_contrast,
            settings.enable_fixed_contrast,
            settings.random_contrast_max_strength,
        ),
        "saturation": (
            settings.enable_random_saturation,
            settings.enable_fixed_saturation,
            settings.random_saturation_max_strength,
        ),
        "hue": (
            settings.enable_random_hue,
            settings.enable_fixed_hue,
            settings.random_hue_max_strength,
        ),
    }


def _value(effect: str, strength: float) -> float:
    if effect == "rotate":
        return strength
    if effect == "hue":
        return min(0.5, max(-0.5, strength / 2))
    return max(0.0, 1 + strength)


def _moved(pixels: "Pixels", values: Values, interpolation: int) -> "Pixels":
    import cv2

    if values.get("flip"):
        pixels = np.asarray(cv2.flip(pixels, 1), dtype=np.uint8)
    if angle := values.get("rotate"):
        height, width = pixels.shape[:2]
        centre = ((width - 1) / 2, (height - 1) / 2)
        turn = cv2.getRotationMatrix2D(centre, angle, 1.0)  # counter-clockwise, as in torchvision
        moved = cv2.warpAffine(
            pixels, turn, (width, height), flags=interpolation, borderMode=cv2.BORDER_REFLECT_101
        )
        pixels = np.asarray(moved, dtype=np.uint8)
    return pixels


def _blend(colours: "Colours", other: "Colours | float", factor: float) -> "Colours":
    """`other` at factor 0, `colours` at 1, and beyond them outside of 0..1."""
    mixed = colours * np.float32(factor) + other * np.float32(1 - factor)
    clamped: Colours = np.clip(mixed, 0, 1)
    return clamped


def _grey(colours: "Colours") -> "Colours":
    import cv2

    return np.asarray(cv2.transform(colours, np.array([_LUMA], np.float32)), dtype=np.float32)


def _turned_hue(colours: "Colours", turn: float) -> "Colours":
    import cv2

    hsv = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv[..., 0] = (hsv[..., 0] + np.float32(turn * 360)) % 360
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.float32)
