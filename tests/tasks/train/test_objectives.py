"""Objectives against diffusers' schedulers, and against the algebra that they promise."""

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr

from tasks.config.objectives import Noise
from tasks.train.objectives import OBJECTIVES, ddpm, flow

SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
V = SCHEDULER | {"prediction_type": "v_prediction"}
T = torch.tensor([0, 10, 700, 999])


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def test_epsilon_predicts_the_noise_and_v_the_velocity(latents, noise):
    epsilon = ddpm(SCHEDULER | {"prediction_type": "epsilon"}, Noise())
    velocity = ddpm(V, Noise())
    assert (epsilon.prediction, velocity.prediction) == ("epsilon", "v_prediction")
    assert epsilon.num_timesteps == 1000
    assert torch.equal(epsilon.target(latents, noise, T), noise)
    # x = a z + s n and v = a n - s z, hence a x - s v = z: an independent check of both.
    beta = torch.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000) ** 2
    alpha = (1 - beta).cumprod(0)[T].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    noisy, v = velocity.corrupt(latents, noise, T), velocity.target(latents, noise, T)
    torch.testing.assert_close(alpha * noisy - sigma * v, latents, atol=1e-4, rtol=1e-4)


def test_ddpm_is_the_scheduler_of_diffusers(latents, noise):
    objective, stock = ddpm(V, Noise()), DDPMScheduler(**V)
    assert torch.equal(objective.corrupt(latents, noise, T), stock.add_noise(latents, noise, T))
    assert torch.equal(objective.target(latents, noise, T), stock.get_velocity(latents, noise, T))
    torch.testing.assert_close(objective.snr(T), compute_snr(stock, T), rtol=1e-4, atol=0)
    pure = objective.corrupt(torch.zeros_like(latents), torch.ones_like(noise), T)
    torch.testing.assert_close(objective.sigma(T), pure[:, 0, 0, 0])


def test_an_objective_that_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match=r"'sample'.*epsilon, v_prediction"):
        ddpm(SCHEDULER | {"prediction_type": "sample"}, Noise())


def test_a_zero_terminal_snr_ends_in_pure_noise(latents, noise):
    plain, rescaled = ddpm(V, Noise()), ddpm(V, Noise(zero_terminal_snr=True))
    beta = torch.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000) ** 2
    alpha_bar = (1 - rescale_zero_terminal_snr(beta)).cumprod(0)[T]
    torch.testing.assert_close(rescaled.sigma(T), (1 - alpha_bar).sqrt())
    assert rescaled.snr(T)[-1] == 0
    assert plain.snr(T)[-1] > 0
    torch.testing.assert_close(rescaled.snr(T)[0], plain.snr(T)[0])
    assert torch.equal(rescaled.corrupt(latents, noise, T)[-1], noise[-1])
    torch.testing.assert_close(rescaled.target(latents, noise, T)[-1], -latents[-1])


def test_a_checkpoint_that_has_a_zero_terminal_snr_keeps_it():
    assert ddpm(V | {"rescale_betas_zero_snr": True}, Noise()).snr(T)[-1] == 0


def test_a_zero_terminal_snr_is_refused_for_epsilon():
    with pytest.raises(ValueError, match="prediction_type 'epsilon': at pure noise"):
        ddpm(SCHEDULER, Noise(zero_terminal_snr=True))


def test_flow_is_the_scheduler_of_diffusers(latents, noise):
    objective, stock = flow({}, Noise()), FlowMatchEulerDiscreteScheduler()
    t = stock.timesteps[[999, 990, 300, 0]]
    noisy = objective.corrupt(latents, noise, t)
    torch.testing.assert_close(noisy, stock.scale_noise(latents, t, noise))
    torch.testing.assert_close(objective.sigma(t), stock.sigmas[[999, 990, 300, 0]])


def test_a_flow_leads_back_to_the_image_and_on_to_the_noise(latents, noise):
    objective = flow({}, Noise())
    t = torch.tensor([0.0, 1.5, 640.25, 1000.0])
    noisy, way = objective.corrupt(latents, noise, t), objective.target(latents, noise, t)
    s = (t / 1000).view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy - s * way, latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(noisy + (1 - s) * way, noise, atol=1e-5, rtol=1e-5)
    assert torch.equal(noisy[0], latents[0])
    assert torch.equal(noisy[-1], noise[-1])
    of_image, of_noise = (1 - t / 1000).square(), (t / 1000).square()
    torch.testing.assert_close(objective.snr(t), of_image / of_noise)


def test_a_sampler_of_flows_finds_the_image_in_one_true_step(latents, noise):
    stock = FlowMatchEulerDiscreteScheduler()
    stock.set_timesteps(1)
    way = flow({}, Noise()).target(latents, noise, stock.timesteps)
    found = stock.step(way, stock.timesteps[0], noise).prev_sample
    torch.testing.assert_close(found, latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "share", "expected"),
    [
        ("ddpm", 0.0, 0),
        ("ddpm", 0.5, 500),
        ("ddpm", 0.9999999999, 999),
        ("ddpm", 1.0, 999),
        ("flow", 0.0, 0.0),
        ("flow", 0.1234567, 123.4567),
        ("flow", 1.0, 1000.0),
    ],
)
def test_a_share_of_noise_becomes_what_the_model_is_told(name, share, expected):
    objective = OBJECTIVES[name](SCHEDULER, Noise())
    assert objective.timestep(share) == pytest.approx(expected)
    assert isinstance(objective.timestep(share), int) == objective.integer_timesteps
    assert objective.integer_timesteps == (name == "ddpm")


@pytest.mark.parametrize("name", ["ddpm", "flow"])
def test_more_noise_is_a_smaller_signal(name):
    objective = OBJECTIVES[name](SCHEDULER, Noise())
    t = torch.tensor([objective.timestep(share) for share in (0.01, 0.2, 0.5, 0.9)])
    assert (objective.sigma(t).diff() > 0).all()
    assert (objective.snr(t).diff() < 0).all()
