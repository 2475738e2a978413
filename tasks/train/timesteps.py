"""Timestep distributions: from a uniform number in [0, 1) to a share of noise in [0, 1].

Each distribution is the inverse of its cumulative distribution function, so that a small number
always means little noise. Formulas in docs/objectives.md.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from tasks.config.objectives import Timesteps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Inverse = Callable[[float], float]
    Floats = NDArray[np.float64]

NUM_POINTS = 4097
"""Of a table: what lies between two points is interpolated, and is less than a timestep."""
SMALLEST = 2.0**-54
"""Stands for 0 where that would be minus infinity: half of the least number that is drawn."""


def noise_share(u: float, settings: Timesteps, shift: float) -> float:
    """The share of the schedule, 0 clean to 1 noise, that a uniform `u` in [0, 1) stands for.

    Args:
        u: the uniform number.
        settings: the distribution, and the range that it is squeezed into.
        shift: of the result, as `shift_of` gives it.
    """
    share = _inverse(settings.distribution, settings.scale, settings.bias)(u)
    share = settings.min + (settings.max - settings.min) * min(max(share, 0.0), 1.0)
    # The same as shift * s / (1 + (shift - 1) * s), but never above 1 by rounding.
    shifted = shift * share
    return shifted / (shifted + (1 - share))


def shift_of(settings: Timesteps, scheduler_config: Mapping[str, Any], num_tokens: int) -> float:
    """The factor that moves timesteps towards noise; a dynamic one grows with the image.

    Args:
        settings: a fixed shift, or that it is dynamic.
        scheduler_config: of the model: between which numbers of tokens the logarithm of the shift
            grows linearly, and from what to what. Diffusers' pipelines sample with the same line,
            and with the same defaults where the config is silent.
        num_tokens: of the sample's image.
    """
    if not settings.dynamic_shift:
        return settings.shift
    get = scheduler_config.get
    low, high = get("base_image_seq_len", 256), get("max_image_seq_len", 4096)
    base, largest = get("base_shift", 0.5), get("max_shift", 1.15)
    mu: float = base + (largest - base) * (num_tokens - low) / (high - low)
    return mu if get("time_shift_type") == "linear" else math.exp(mu)


@lru_cache(maxsize=64)
def _inverse(distribution: str, scale: float, bias: float) -> "Inverse":
    return DISTRIBUTIONS[distribution](scale, bias)


def _uniform(scale: float, bias: float) -> "Inverse":
    return lambda u: u


def _logit_normal(scale: float, bias: float) -> "Inverse":
    """Esser et al. 2024 (SD 3), section 3.1: a normal number through the logistic function."""
    quantile = NormalDist(bias, scale).inv_cdf
    return lambda u: _logistic(quantile(max(u, SMALLEST)))


def _heavy_tail(scale: float, bias: float) -> "Inverse":
    """Esser et al. 2024, "mode sampling with heavy tails", for 1 - u: more noise for larger u."""
    return lambda u: u - scale * (math.sin(math.pi / 2 * u) ** 2 - u)


def _cos_map(scale: float, bias: float) -> "Inverse":
    """Esser et al. 2024, "CosMap": the noise of Nichol and Dhariwal's cosine schedule."""
    return lambda u: 1 - 1 / (math.tan(math.pi / 2 * u) + 1)


def _sigmoid(scale: float, bias: float) -> "Inverse":
    """Density 1 / (1 + exp(-scale (s - 0.5 - bias))), as OneTrainer has it."""
    import numpy as np

    shares = np.linspace(0, 1, NUM_POINTS)
    return _from_log_density(shares, -np.logaddexp(0, -scale * (shares - 0.5 - bias)))


def _inverted_parabola(scale: float, bias: float) -> "Inverse":
    """Density max(0, 2 - scale (s - 0.5 - bias)^2), as OneTrainer has it."""
    import numpy as np

    shares = np.linspace(0, 1, NUM_POINTS)
    with np.errstate(divide="ignore"):
        logarithm = np.log(np.maximum(0, 2 - scale * (shares - 0.5 - bias) ** 2))
    return _from_log_density(shares, logarithm)


def _beta(scale: float, bias: float) -> "Inverse":
    """Beta(scale, scale), of density s^(scale - 1) (1 - s)^(scale - 1).

    The table is of log(s / (1 - s)): there the density is smooth and falls off to both sides, for a
    scale below 1 too, where the one above is infinite at its ends.
    """
    import numpy as np

    end = 2 * (math.log(2) + 18.4 / scale)  # beyond it lies less than 1e-16
    logits = np.linspace(-end, end, NUM_POINTS)
    density = -scale * (np.logaddexp(0, logits) + np.logaddexp(0, -logits))
    logit = _from_log_density(logits, density)
    return lambda u: _logistic(logit(u))


def _from_log_density(points: "Floats", log_density: "Floats") -> "Inverse":
    """The inverse distribution function of a density at equidistant points, of any total mass.

    The density is linear between points; ValueError when it is 0 at all of them.
    """
    import numpy as np

    largest = log_density.max()
    if not math.isfinite(largest):
        raise ValueError("no timestep has a probability above 0; use a smaller scale or bias")
    density = np.exp(log_density - largest)
    masses = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    ends: list[float] = (masses / masses[-1]).tolist()
    places: list[float] = points.tolist()

    def inverse(u: float) -> float:
        above = min(bisect_right(ends, u), len(ends) - 1)
        start, place = ends[above - 1], places[above - 1]
        return place + (places[above] - place) * (u - start) / (ends[above] - start)

    return inverse


def _logistic(x: float) -> float:
    # By tanh, which does not overflow.
    return 0.5 + 0.5 * math.tanh(x / 2)


DISTRIBUTIONS: "dict[str, Callable[[float, float], Inverse]]" = {
    "uniform": _uniform,
    "sigmoid": _sigmoid,
    "logit_normal": _logit_normal,
    "heavy_tail": _heavy_tail,
    "cos_map": _cos_map,
    "inverted_parabola": _inverted_parabola,
    "beta": _beta,
}
"""(scale, bias) to the function of u."""
