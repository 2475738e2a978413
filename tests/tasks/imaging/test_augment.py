"""Augmentation: what is drawn depends on its arguments only; each effect is torchvision's."""

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import digest
from tasks.config.concepts import ImageConfig
from tasks.imaging.augment import Values, augment, augment_mask, draw_augmentation
from tests.photos import photo_pixels

EFFECTS = ("flip", "rotate", "brightness", "contrast", "saturation", "hue")
PHOTO = photo_pixels(96, 64, 3)
KEYS = [digest("test", number) for number in range(2000)]
STRENGTHS = {
    "rotate": ("random_rotate_max_angle", 20.0),
    "brightness": ("random_brightness_max_strength", 0.3),
    "contrast": ("random_contrast_max_strength", 0.3),
    "saturation": ("random_saturation_max_strength", 0.3),
    "hue": ("random_hue_max_strength", 0.4),
}
RANGES = {
    "rotate": (-20.0, 20.0),
    "brightness": (0.7, 1.3),
    "contrast": (0.7, 1.3),
    "saturation": (0.7, 1.3),
    "hue": (-0.2, 0.2),
}


def settings(*effects: str, kind: str = "random", **more: object) -> ImageConfig:
    """Settings with these effects on, at the strengths above."""
    values: dict[str, object] = {f"enable_{kind}_{effect}": True for effect in effects}
    values |= dict(STRENGTHS[effect] for effect in effects if effect in STRENGTHS)
    return ImageConfig.model_validate(values | more)


def reference(colour: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """PHOTO with a function applied to its floating point colours."""
    return np.rint(colour(PHOTO / 255).clip(0, 1) * 255)


def grey(colours: np.ndarray) -> np.ndarray:
    return (colours * [0.2989, 0.587, 0.114]).sum(axis=-1, keepdims=True)


# --- draws -----------------------------------------------------------------------------------


def test_nothing_is_drawn_by_default() -> None:
    assert draw_augmentation(ImageConfig(), 0, KEYS[0], 0) == {}


def test_draws_never_drift() -> None:
    """Golden values: a change encodes every augmented sample anew."""
    assert draw_augmentation(settings(*EFFECTS), 7, KEYS[1], 2) == GOLDEN


GOLDEN: dict[str, bool | float] = {
    "flip": True,
    "rotate": -8.363333,
    "brightness": 1.138363,
    "contrast": 1.050449,
    "saturation": 1.0286,
    "hue": -0.07549,
}


@given(
    seed=st.integers(-(2**40), 2**40),
    key=st.binary(min_size=16, max_size=16),
    variation=st.integers(0, 1000),
    effects=st.sets(st.sampled_from(EFFECTS)),
)
def test_an_effect_is_drawn_alike_whatever_else_is_on(
    seed: int, key: bytes, variation: int, effects: set[str]
) -> None:
    every = draw_augmentation(settings(*EFFECTS), seed, key, variation)
    some = draw_augmentation(settings(*effects), seed, key, variation)
    assert some == {effect: value for effect, value in every.items() if effect in effects}
    assert some == draw_augmentation(settings(*effects), seed, key, variation)


@pytest.mark.parametrize("effect", EFFECTS)
def test_seed_view_and_variation_count(effect: str) -> None:
    def draws(seed: int, variation: int, keys: list[bytes]) -> list[bool | float | None]:
        drawn = (draw_augmentation(settings(effect), seed, key, variation) for key in keys)
        return [values.get(effect) for values in drawn]

    first = draws(0, 0, KEYS[:50])
    others = [draws(1, 0, KEYS[:50]), draws(0, 1, KEYS[:50]), draws(0, 0, KEYS[50:100])]
    assert all(first != other for other in others)


@pytest.mark.parametrize("effect", RANGES)
def test_random_strengths_fill_their_range_evenly(effect: str) -> None:
    low, high = RANGES[effect]
    drawn = [draw_augmentation(settings(effect), 0, key, 0)[effect] for key in KEYS]
    assert min(drawn) >= low and max(drawn) <= high
    assert all(value == round(value, 6) for value in drawn)
    counts, _ = np.histogram(drawn, bins=4, range=(low, high))
    # 2000 draws: each quarter holds 500, with a standard deviation of 19.
    assert counts.min() > 400


def test_half_of_the_views_are_flipped() -> None:
    flips = [draw_augmentation(settings("flip"), 0, key, 0) for key in KEYS]
    assert all(flip in ({}, {"flip": True}) for flip in flips)
    assert 900 < sum(map(len, flips)) < 1100


def test_two_effects_are_drawn_independently() -> None:
    drawn = [draw_augmentation(settings("brightness", "contrast"), 0, key, 0) for key in KEYS]
    pairs = np.array([[values["brightness"], values["contrast"]] for values in drawn])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.1


def test_fixed_values_are_the_strengths_themselves() -> None:
    drawn = draw_augmentation(settings(*EFFECTS, kind="fixed"), 0, KEYS[0], 0)
    assert drawn == {
        "flip": True,
        "rotate": 20.0,
        "brightness": 1.3,
        "contrast": 1.3,
        "saturation": 1.3,
        "hue": 0.2,
    }


def test_random_counts_where_both_are_on() -> None:
    both = settings(*EFFECTS, **{f"enable_fixed_{effect}": True for effect in EFFECTS})
    for key in KEYS[:20]:
        assert draw_augmentation(both, 0, key, 0) == draw_augmentation(
            settings(*EFFECTS), 0, key, 0
        )


def test_a_factor_is_never_negative() -> None:
    wild = settings("brightness", random_brightness_max_strength=10.0)
    drawn = [draw_augmentation(wild, 0, key, 0)["brightness"] for key in KEYS]
    assert min(drawn) == 0.0
    assert max(drawn) > 10
    assert 0.35 < np.mean(np.equal(drawn, 0)) < 0.55  # uniform(-9, 11) is below 0 in 9 of 20


def test_what_changes_nothing_is_left_out() -> None:
    values = {name: 0.0 for name, _ in STRENGTHS.values()}
    for kind in ("random", "fixed"):
        drawn = draw_augmentation(settings(*RANGES, kind=kind, **values), 0, KEYS[0], 0)
        assert drawn == {}


# --- pixels ----------------------------------------------------------------------------------


@given(
    flip=st.booleans(),
    rotate=st.floats(-180, 180),
    factors=st.tuples(*[st.floats(0, 3)] * 3),
    hue=st.floats(-0.5, 0.5),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
)
def test_shape_and_type_are_kept_and_the_given_pixels_too(
    flip: bool,
    rotate: float,
    factors: tuple[float, float, float],
    hue: float,
    size: tuple[int, int],
) -> None:
    given_pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = given_pixels.copy()
    colours = dict(zip(("brightness", "contrast", "saturation"), factors, strict=True))
    values: Values = {"flip": flip, "rotate": rotate, **colours, "hue": hue}
    out = augment(given_pixels, values)
    assert (out.shape, out.dtype) == ((*size, 3), np.dtype(np.uint8))
    assert out.flags.c_contiguous
    assert np.array_equal(given_pixels, before)
    assert np.array_equal(out, augment(given_pixels, values))
    mask = augment_mask(given_pixels[..., 0].copy(), values)
    assert (mask.shape, mask.dtype) == (size, np.dtype(np.uint8))


def test_no_values_change_nothing() -> None:
    assert augment(PHOTO, {}) is PHOTO
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}
    assert np.array_equal(augment(PHOTO, neutral), PHOTO)
    turned = augment(PHOTO, {"hue": 1e-9}).astype(int)
    assert np.abs(turned - PHOTO).max() <= 1


def test_a_flip_mirrors_left_and_right_and_twice_is_none() -> None:
    once = augment(PHOTO, {"flip": True})
    assert np.array_equal(once, PHOTO[:, ::-1])
    assert np.array_equal(augment(once, {"flip": True}), PHOTO)


def test_a_rotation_is_counter_clockwise_about_the_centre() -> None:
    square = photo_pixels(64, 64, 5)
    turned = augment(square, {"rotate": 90.0}).astype(int)
    assert np.abs(turned - np.rot90(square)).max() <= 1
    back = augment(augment(square, {"rotate": 10.0}), {"rotate": -10.0}).astype(int)
    inside = (slice(16, 48), slice(16, 48))
    assert np.abs(back[inside] - square[inside]).mean() < 6
    assert np.abs(augment(square, {"rotate": 10.0})[inside] - square[inside]).mean() > 6


def test_what_a_rotation_brings_in_is_mirrored_not_black() -> None:
    bright = np.full((64, 96, 3), 200, np.uint8)
    assert (augment(bright, {"rotate": 30.0}) == 200).all()
    assert (augment_mask(bright[..., 0].copy(), {"rotate": 30.0}) == 200).all()


def test_brightness_is_a_factor() -> None:
    for factor in (0.0, 0.5, 1.5):
        out = augment(PHOTO, {"brightness": factor})
        assert np.abs(out - reference(lambda c, factor=factor: c * factor)).max() <= 1


def test_contrast_blends_with_the_mean_grey() -> None:
    mean = grey(PHOTO / 255).mean()
    for factor in (0.0, 0.5, 1.5):
        out = augment(PHOTO, {"contrast": factor})
        expected = reference(lambda c, factor=factor: c * factor + mean * (1 - factor))
        assert np.abs(out - expected).max() <= 1
    assert augment(PHOTO, {"contrast": 1.5}).std() > PHOTO.std()


def test_saturation_blends_with_grey() -> None:
    for factor in (0.0, 0.5, 1.5):
        out = augment(PHOTO, {"saturation": factor})
        expected = reference(lambda c, factor=factor: c * factor + grey(c) * (1 - factor))
        assert np.abs(out - expected).max() <= 1
    drained = augment(PHOTO, {"saturation": 0.0})
    assert (drained == drained[..., :1]).all()


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.25, 1 / 3])
def test_hue_turns_the_colour_circle(turn: float) -> None:
    def turned(red: float, green: float, blue: float) -> tuple[float, float, float]:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        return colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)

    out = augment(PHOTO, {"hue": turn})
    expected = np.array([turned(*pixel) for pixel in (PHOTO / 255).reshape(-1, 3)])
    assert np.abs(out - np.rint(expected.reshape(PHOTO.shape) * 255)).max() <= 1


def test_the_order_is_geometry_brightness_contrast_saturation_hue() -> None:
    values = {
        "flip": True,
        "rotate": 15.0,
        "brightness": 1.8,
        "contrast": 1.4,
        "saturation": 0.5,
        "hue": 0.3,
    }
    steps = PHOTO
    for effect in EFFECTS:
        steps = augment(steps, {effect: values[effect]})
    shuffled = PHOTO
    for effect in reversed(EFFECTS):
        shuffled = augment(shuffled, {effect: values[effect]})
    together = augment(PHOTO, dict(reversed(values.items()))).astype(int)
    assert np.abs(together - steps).max() <= 4, "one rounding instead of four"
    assert np.abs(together - shuffled).max() > 20


# --- masks -----------------------------------------------------------------------------------


def test_a_mask_moves_with_its_pixels_and_keeps_its_values() -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[10:30, 10:40] = 255
    values = {"flip": True, "rotate": 12.0, "brightness": 0.2, "contrast": 0.2, "hue": 0.4}
    moved = augment_mask(mask, values)
    as_pixels = augment(np.repeat(mask[..., None], 3, axis=2), {"flip": True, "rotate": 12.0})
    assert ((moved > 127) != (as_pixels[..., 0] > 127)).mean() < 0.01
    assert set(np.unique(augment_mask(mask, {"brightness": 0.2}))) == {0, 255}
    assert np.array_equal(augment_mask(mask, {"flip": True}), mask[:, ::-1])
