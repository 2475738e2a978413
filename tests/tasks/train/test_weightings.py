"""Loss weightings against their formulas, diffusers' SNR, and each other."""

from typing import get_args

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from tasks.config.objectives import LossConfig, Noise
from tasks.train.objectives import Objective, ddpm, flow
from tasks.train.weightings import WEIGHTINGS

EPSILON = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
V = EPSILON | {"prediction_type": "v_prediction"}
T = torch.tensor([0, 10, 250, 700, 999])
SNR = compute_snr(DDPMScheduler(**EPSILON), T)


def weights(name: str, objective: Objective, gamma: float = 5.0) -> torch.Tensor:
    found = WEIGHTINGS[name](objective, T, gamma)
    assert (found.shape, found.dtype) == (T.shape, torch.float32)
    return found


@pytest.mark.parametrize(
    ("name", "scheduler", "gamma", "expected"),
    [
        ("min_snr_gamma", EPSILON, 5.0, SNR.clamp(max=5) / SNR),
        ("min_snr_gamma", EPSILON, 0.5, SNR.clamp(max=0.5) / SNR),
        ("min_snr_gamma", V, 5.0, SNR.clamp(max=5) / (SNR + 1)),
        ("debiased", EPSILON, 5.0, 1 / SNR.clamp(max=1000).sqrt()),
        ("debiased", V, 5.0, 1 / (SNR.clamp(max=1000) + 1).sqrt()),
        ("p2", EPSILON, 0.5, (1 + SNR) ** -0.5),
        ("p2", EPSILON, 1.0, 1 / (1 + SNR)),
        ("p2", V, 1.0, 1 / (1 + SNR)),
        ("constant", EPSILON, 5.0, torch.ones(5)),
        ("constant", V, 5.0, torch.ones(5)),
    ],
)
def test_weights_follow_their_formula(name, scheduler, gamma, expected):
    found = weights(name, ddpm(scheduler, Noise()), gamma)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_min_snr_weighs_the_error_of_the_clean_image_alike_for_epsilon_and_v():
    generator = torch.Generator().manual_seed(0)
    image, noise, guess = torch.randn(3, 5, 4, 8, 8, generator=generator, dtype=torch.float64)
    costs = []
    for scheduler in (EPSILON, V):
        objective = ddpm(scheduler, Noise())
        noisy = objective.corrupt(image, noise, T)
        # The noise that a model must believe in when it takes `guess` for the clean image.
        sigma = objective.sigma(T).double().view(-1, 1, 1, 1)
        believed = (noisy - (1 - sigma**2).sqrt() * guess) / sigma
        target, prediction = (
            objective.target(*pair, T) for pair in ((image, noise), (guess, believed))
        )
        loss = (prediction - target).square().mean((1, 2, 3))
        costs.append(loss * weights("min_snr_gamma", objective))
    torch.testing.assert_close(*costs, rtol=1e-3, atol=0)


def test_v_models_stay_finite_at_a_zero_terminal_snr():
    rescaled = ddpm(V, Noise(zero_terminal_snr=True))
    for name in ("constant", "min_snr_gamma", "debiased", "p2"):
        assert weights(name, rescaled).isfinite().all()


def test_sigma_is_the_share_of_noise():
    assert torch.equal(weights("sigma", flow({}, Noise())), T / 1000)


def test_every_weighting_is_another_one_and_can_be_chosen():
    objective = ddpm(EPSILON, Noise())
    found = {name: weights(name, objective, 0.7) for name in WEIGHTINGS}
    assert len({tuple(one.tolist()) for one in found.values()}) == len(WEIGHTINGS)
    allowed = get_args(LossConfig.model_fields["weighting"].annotation)
    assert set(allowed) == set(WEIGHTINGS)
