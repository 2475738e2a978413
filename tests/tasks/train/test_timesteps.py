"""Timestep distributions against their densities, diffusers' samplers and its shifts."""

import itertools
import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.training_utils import compute_density_for_timestep_sampling
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.objectives import Timesteps
from tasks.train.timesteps import DISTRIBUTIONS, noise_share, shift_of

SCALES = {
    "heavy_tail": st.floats(-1, 2 / (math.pi - 2)),
    "sigmoid": st.floats(-50, 50),
    "inverted_parabola": st.floats(0, 30),
}
UNIFORM = st.floats(0, 1, exclude_max=True)
RANGES = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda ends: ends[1] - ends[0] > 1e-3)
EVEN = (np.arange(20_000) + 0.5) / 20_000


@st.composite
def some_settings(draw: st.DrawFn) -> Timesteps:
    name = draw(st.sampled_from(sorted(DISTRIBUTIONS)))
    low, high = draw(RANGES)
    return Timesteps(
        distribution=name,
        scale=draw(SCALES.get(name, st.floats(0.05, 20))),
        bias=draw(st.floats(-0.7, 0.7)),
        min=low,
        max=high,
    )


@given(some_settings(), st.floats(0.05, 20), UNIFORM, UNIFORM)
def test_a_larger_number_never_gives_less_noise(settings, shift, one, other):
    less, more = (noise_share(u, settings, shift) for u in sorted((one, other)))
    assert less <= more + 1e-12


@given(some_settings(), UNIFORM)
def test_shares_stay_in_their_range(settings, u):
    assert settings.min - 1e-12 <= noise_share(u, settings, 1.0) <= settings.max + 1e-12


@given(some_settings(), UNIFORM, st.floats(1e-3, 1e3))
def test_shifted_shares_are_shares(settings, u, shift):
    plain, shifted = (noise_share(u, settings, one) for one in (1.0, shift))
    assert 0 <= shifted <= 1
    assert shifted == pytest.approx(shift * plain / (1 + (shift - 1) * plain), abs=1e-9)


@given(UNIFORM)
def test_by_default_a_number_is_its_share_to_the_last_bit(u):
    assert noise_share(u, Timesteps(), 1.0) == u


def shares(name: str, **settings: float) -> np.ndarray:
    """The shares of evenly spaced numbers: their histogram is the density."""
    chosen = Timesteps(distribution=name, **settings)
    return np.array([noise_share(u, chosen, 1.0) for u in EVEN])


def sigmoid(s: np.ndarray, scale: float, bias: float = 0.0) -> np.ndarray:
    return 1 / (1 + np.exp(-scale * (s - 0.5 - bias)))


def parabola(s: np.ndarray, scale: float, bias: float = 0.0) -> np.ndarray:
    return np.maximum(0, 2 - scale * (s - 0.5 - bias) ** 2)


def cos_map(s: np.ndarray) -> np.ndarray:
    return 2 / (math.pi * (1 - 2 * s + 2 * s**2))


def logit_normal(s: np.ndarray, scale: float, bias: float = 0.0) -> np.ndarray:
    logit = np.log(s / (1 - s))
    return np.exp(-(((logit - bias) / scale) ** 2) / 2) / (s * (1 - s))


def beta(s: np.ndarray, scale: float) -> np.ndarray:
    return (s * (1 - s)) ** (scale - 1)


@pytest.mark.parametrize(
    ("density", "settings"),
    [
        (sigmoid, {"scale": 1.0}),
        (sigmoid, {"scale": 12.0, "bias": 0.2}),
        (sigmoid, {"scale": -12.0}),
        (parabola, {"scale": 8.0}),
        (parabola, {"scale": 20.0, "bias": -0.3}),
        (cos_map, {}),
        (logit_normal, {"scale": 1.0}),
        (logit_normal, {"scale": 0.6, "bias": -0.5}),
        (beta, {"scale": 2.0}),
        (beta, {"scale": 30.0}),
        (beta, {"scale": 0.8}),
    ],
)
def test_histograms_match_the_density(density: Callable[..., np.ndarray], settings):
    name = {sigmoid: "sigmoid", parabola: "inverted_parabola"}.get(density, density.__name__)
    found, edges = np.histogram(shares(name, **settings), 25, (0, 1))
    fine = (np.arange(25 * 4000) + 0.5) / (25 * 4000)
    expected = density(fine, **settings).reshape(25, -1).sum(1)
    error = found / len(EVEN) - expected / expected.sum()
    assert np.abs(error).max() < 1e-3


@pytest.mark.parametrize(
    ("scale", "distribution"),
    [
        (1.0, lambda s: s),
        (2.0, lambda s: 3 * s**2 - 2 * s**3),
        (0.5, lambda s: 2 / math.pi * np.arcsin(np.sqrt(s))),
    ],
)
def test_beta_inverts_its_distribution_function(scale, distribution):
    assert np.abs(distribution(shares("beta", scale=scale)) - EVEN).max() < 1e-4


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.29, 2 / (math.pi - 2)])
def test_heavy_tails_and_logit_normal_are_those_of_diffusers(scale):
    sample = partial(compute_density_for_timestep_sampling, batch_size=100_000)
    generator = torch.Generator().manual_seed(0)
    theirs = sample("mode", mode_scale=scale, generator=generator).sort().values.numpy()
    assert distance(shares("heavy_tail", scale=scale), theirs) < 0.01
    theirs = sample("logit_normal", logit_mean=scale, logit_std=0.8, generator=generator)
    ours = shares("logit_normal", scale=0.8, bias=scale)
    assert distance(ours, theirs.sort().values.numpy()) < 0.01


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Kolmogorov and Smirnov's: the largest difference of two distribution functions."""
    return np.abs(np.searchsorted(theirs, ours) / len(theirs) - EVEN).max()


def test_every_setting_changes_the_shares():
    plain = {name: shares(name, scale=0.8) for name in DISTRIBUTIONS}
    for name, other in itertools.combinations(plain, 2):
        assert not np.allclose(plain[name], plain[other], atol=1e-3)
    for name in set(plain) - {"uniform", "cos_map"}:
        assert not np.allclose(shares(name, scale=0.5), plain[name], atol=1e-3)
    for name in ("logit_normal", "sigmoid", "inverted_parabola"):
        assert shares(name, scale=0.8, bias=0.4).mean() > plain[name].mean() + 1e-3
    assert shares("uniform", min=0.2).min() >= 0.2
    assert shares("uniform", max=0.7).max() <= 0.7
    assert noise_share(0.5, Timesteps(), 3.0) == 0.75


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_a_shift_is_that_of_the_flow_scheduler(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    fixed = shift_of(Timesteps(shift=shift), {"base_shift": 9.0}, 4096)
    ours = [noise_share(step / 1000, Timesteps(), fixed) for step in range(1000, 0, -1)]
    np.testing.assert_allclose(ours, scheduler.sigmas[:1000], atol=1e-6)


@pytest.mark.parametrize("num_tokens", [256, 1024, 4096, 9000])
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192},
        {"base_shift": 0.5, "time_shift_type": "linear"},
    ],
)
def test_a_dynamic_shift_is_that_of_the_flow_pipelines(num_tokens, facts):
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **facts)
    config = scheduler.config
    mu = calculate_shift(
        num_tokens,
        config.base_image_seq_len,
        config.max_image_seq_len,
        config.base_shift,
        config.max_shift,
    )
    shift = shift_of(Timesteps(dynamic_shift=True, shift=7.0), facts, num_tokens)
    steps = np.linspace(0.001, 1, 50)
    ours = [noise_share(step, Timesteps(), shift) for step in steps]
    np.testing.assert_allclose(ours, scheduler.time_shift(mu, 1.0, steps), rtol=1e-6)


def test_a_distribution_without_any_timestep_is_refused():
    with pytest.raises(ValueError, match="no timestep has a probability above 0"):
        noise_share(0.5, Timesteps(distribution="inverted_parabola", scale=8.0, bias=5.0), 1.0)


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_a_share_costs_microseconds(name):
    settings = Timesteps(distribution=name, scale=0.9)
    noise_share(0.5, settings, 3.0)  # makes the table
    laps = []
    for _ in range(5):
        start = time.perf_counter()
        for number in range(1000):
            noise_share(number / 1000, settings, 3.0)
        laps.append((time.perf_counter() - start) / 1000)
    assert min(laps) < 20e-6
