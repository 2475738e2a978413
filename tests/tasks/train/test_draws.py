import math

import pytest
import torch

from tasks.config.optimizers import Schedule
from tasks.train.losses import mse, weighted_mean
from tasks.train.noise import draw_seed, normal, uniform
from tasks.train.objectives import ddpm
from tasks.train.schedules import rate_factor
from tasks.train.timesteps import uniform_timestep

SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def test_a_draw_depends_on_each_of_its_coordinates():
    draws = {
        draw_seed(1, "noise", 0, 0),
        draw_seed(2, "noise", 0, 0),
        draw_seed(1, "timestep", 0, 0),
        draw_seed(1, "noise", 1, 0),
        draw_seed(1, "noise", 0, 1),
    }
    assert len(draws) == 5
    assert all(0 <= draw < 2**63 for draw in draws)


def test_noise_of_a_position_is_the_same_in_any_batch():
    together = normal((4, 8, 8), 1, 0, range(4))
    alone = normal((4, 8, 8), 1, 0, range(2, 3))
    assert torch.equal(together[2:3], alone)
    assert abs(normal((4, 64, 64), 1, 0, range(8)).std().item() - 1) < 0.01


def test_uniform_draws_fill_the_unit_interval_evenly():
    draws = [uniform(1, "timestep", 0, position) for position in range(4000)]
    assert min(draws) >= 0
    assert max(draws) < 1
    assert abs(sum(draws) / len(draws) - 0.5) < 0.02


@pytest.mark.parametrize(("u", "expected"), [(0.0, 0), (0.9999999999, 999), (0.5, 500)])
def test_uniform_timesteps(u, expected):
    assert uniform_timestep(u, 1000) == expected


def test_epsilon_predicts_the_noise_and_v_the_velocity():
    latents, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 700])
    epsilon = ddpm(SCHEDULER | {"prediction_type": "epsilon"})
    velocity = ddpm(SCHEDULER | {"prediction_type": "v_prediction"})
    assert epsilon.num_timesteps == 1000
    assert torch.equal(epsilon.target(latents, noise, t), noise)
    # x = a z + s n and v = a n - s z, hence a x - s v = z: an independent check of both.
    beta = torch.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000) ** 2
    alpha = (1 - beta).cumprod(0)[t].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    noisy, v = velocity.corrupt(latents, noise, t), velocity.target(latents, noise, t)
    torch.testing.assert_close(alpha * noisy - sigma * v, latents, atol=1e-4, rtol=1e-4)


def test_an_objective_that_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match=r"'sample'.*epsilon, v_prediction"):
        ddpm(SCHEDULER | {"prediction_type": "sample"})


def test_losses_are_float32_and_weighted_per_sample():
    prediction, target = torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16), torch.ones(2, 4, 8, 8)
    target[1] = 3
    losses = mse(prediction, target)
    assert losses.dtype == torch.float32
    assert losses.tolist() == [1, 9]
    assert weighted_mean(losses, torch.tensor([1.0, 0.0])).item() == 0.5


def test_schedules_warm_up_and_fall_to_their_floor():
    cosine = Schedule(kind="cosine", warmup_steps=4, min_factor=0.1)
    rates = [rate_factor(cosine, step, 104) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert math.isclose(rates[54], 0.5)
    assert min(rates[4:]) == rates[-1] == 0.1
    linear = Schedule(kind="linear")
    assert [rate_factor(linear, step, 4) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    constant = Schedule(warmup_steps=2)
    assert [rate_factor(constant, step, 5) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
