"""Checks of timesteps, noise, loss and masks against the objective of the chosen family.

Values of a distribution, a weighting or a switch that is not chosen are allowed.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tasks.config.family_checks import Report
from tasks.config.models import Config
from tasks.config.objectives import Timesteps
from tasks.config.problems import Problem, as_toml

if TYPE_CHECKING:
    from tasks.families.base import Family

WEIGHTINGS = {
    "ddpm": ("constant", "min_snr_gamma", "debiased", "p2"),
    "flow": ("constant", "sigma"),
}
"""Objective to the values of train.loss.weighting that are defined for it."""
WHY = {
    "ddpm": "weighs by the share of noise of flow models",
    "flow": "weighs by the signal-to-noise ratio of a diffusion schedule",
}
"""Objective to what is wrong with the weightings that it does not have."""
STEEPEST_TAIL = 2 / (math.pi - 2)
LARGEST_SHAPE = 1e4


def objective_problems(config: Config, problem: Report) -> Iterator[Problem]:
    """What does not fit the family's objective; nothing when there is no such family."""
    from tasks.families import FAMILIES

    yield from _scale(config.train.timesteps, problem)
    yield from _masks(config, problem)
    if (family := FAMILIES.get(config.model.family)) is None:
        return
    yield from _weighting(config, family, problem)
    yield from _shift(config, family, problem)
    if config.train.noise.zero_terminal_snr:
        yield from _zero_terminal_snr(config, family, problem)


def _scale(timesteps: Timesteps, problem: Report) -> Iterator[Problem]:
    """A distribution that its scale makes impossible."""
    if timesteps.distribution not in SCALES:
        return
    is_allowed, limits = SCALES[timesteps.distribution]
    if not is_allowed(timesteps):
        place, chosen = ("train", "timesteps", "scale"), as_toml(timesteps.distribution)
        message = f"must be {limits}, for distribution = {chosen}"
        yield problem(place, message, "train.timesteps.distribution", "train.timesteps.bias")


def _parabola_is_above_zero(timesteps: Timesteps) -> bool:
    """Whether 2 - scale (s - 0.5 - bias)^2 is positive for some s in 0..1."""
    outside = max(0.0, abs(timesteps.bias) - 0.5)
    return timesteps.scale >= 0 and timesteps.scale * outside**2 < 2


SCALES: dict[str, tuple[Callable[[Timesteps], bool], str]] = {
    "logit_normal": (lambda one: one.scale > 0, "greater than 0, as a standard deviation is"),
    "heavy_tail": (
        lambda one: -1 <= one.scale <= STEEPEST_TAIL,
        f"from -1 to {STEEPEST_TAIL:.3f}: beyond them it is no distribution",
    ),
    "inverted_parabola": (
        _parabola_is_above_zero,
        "at least 0, and 2 - scale * (s - 0.5 - bias)^2 above 0 for some s in 0..1",
    ),
    "beta": (lambda one: 0 < one.scale <= LARGEST_SHAPE, "greater than 0 and at most 10000"),
}
"""Distribution to whether its scale can be, and what to say if not."""


def _weighting(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    weighting, allowed = config.train.loss.weighting, WEIGHTINGS[family.objective]
    if weighting in allowed:
        return
    names = " or ".join(as_toml(name) for name in allowed)
    message = f"{WHY[family.objective]}, which {family.name} does not have; use {names}"
    yield problem(("train", "loss", "weighting"), message, "model.family")


def _shift(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    if config.train.timesteps.dynamic_shift and family.objective == "ddpm":
        message = (
            f"must be false: the scheduler of {family.name} has a fixed schedule at every image "
            "size; set train.timesteps.shift instead"
        )
        yield problem(("train", "timesteps", "dynamic_shift"), message, "model.family")


def _zero_terminal_snr(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    place = ("train", "noise", "zero_terminal_snr")
    if family.objective == "flow":
        message = f"must be false: the last timestep of {family.name} is pure noise already"
        yield problem(place, message, "model.family")
    elif _prediction(config, family) == "epsilon":
        message = (
            'must be false: the model\'s scheduler config has prediction_type "epsilon", and at '
            "pure noise such a model would only repeat its input; a model that predicts v can"
        )
        yield problem(place, message, "model.base", "model.config_folder")


def _prediction(config: Config, family: "Family") -> str | None:
    """What the model predicts; None when that cannot be known here, or the model is wrong."""
    from tasks.families.sources import read_config, resolve_model

    base, folder = config.model.base, config.model.config_folder
    try:
        source = resolve_model(base, family, folder, download=False)
        # Diffusers' default where the config is silent.
        return str(read_config(source, "scheduler").get("prediction_type", "epsilon"))
    except (ValueError, OSError):
        return None


def _masks(config: Config, problem: Report) -> Iterator[Problem]:
    """Masked training without any mask: it would train as if it were off."""
    trained = [one for one in config.concepts if one.enabled and one.type != "validation"]
    if config.train.mask.enabled and all(one.image.mask_source == "none" for one in trained):
        message = (
            "must be false: no concept that trains has masks; or set image.mask_source of a "
            'concept to "file" or "alpha"'
        )
        yield problem(("train", "mask", "enabled"), message, "concepts")
