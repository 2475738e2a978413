"""Losses against torch's own, with masks, and in shares."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from tasks.config.objectives import LossConfig
from tasks.train.losses import LOSSES, sample_losses, training_mask, weighted_mean

MSE = LossConfig()


def only(name: str, share: float = 1.0, **settings: float) -> LossConfig:
    return LossConfig(**{"mse": 0.0, name: share}, **settings)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 3, 4, 8, 6, generator=generator)
    return prediction.requires_grad_(), target


def test_losses_are_float32_and_weighted_per_sample():
    prediction, target = torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16), torch.ones(2, 4, 8, 8)
    target[1] = 3
    losses = sample_losses(prediction, target, MSE)
    assert losses.dtype == torch.float32
    assert losses.tolist() == [1, 9]
    assert weighted_mean(losses, torch.tensor([1.0, 0.0])).item() == 0.5


def test_by_default_the_loss_is_the_mean_square_to_the_last_bit(pair):
    prediction, target = pair
    losses = sample_losses(prediction, target, MSE, None, False)
    plain = (prediction - target).square().flatten(1).mean(1)
    assert torch.equal(losses, plain)
    gradients = [torch.autograd.grad(one.mean(), prediction)[0] for one in (losses, plain)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        (only("mse"), functional.mse_loss),
        (only("mae"), functional.l1_loss),
        (only("huber"), functional.huber_loss),
        (
            only("huber", huber_delta=0.3),
            lambda *pair, reduction: functional.huber_loss(*pair, reduction, 0.3),
        ),
        (
            only("log_cosh"),
            lambda p, t, reduction: (p - t).double().cosh().log().float(),
        ),
    ],
    ids=["mse", "mae", "huber", "huber-0.3", "log_cosh"],
)
def test_each_loss_is_that_of_torch(pair, settings, theirs):
    ours = sample_losses(*pair, settings)
    expected = theirs(*pair, reduction="none").mean((1, 2, 3))
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad(one.sum(), pair[0])[0] for one in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_log_cosh_is_right_for_tiny_and_for_huge_errors():
    errors = torch.tensor([0.0, 1e-3, -0.02, 3.0, -100.0, 1e6]).requires_grad_()
    losses = LOSSES["log_cosh"](errors, MSE)
    expected = [0.0, 5e-7, 2e-4, math.log(math.cosh(3.0)), 100 - math.log(2), 1e6]
    torch.testing.assert_close(losses, torch.tensor(expected), rtol=1e-3, atol=0)
    (gradient,) = torch.autograd.grad(losses.sum(), errors)
    torch.testing.assert_close(gradient, errors.detach().tanh(), rtol=1e-3, atol=0)


SHARES = st.floats(0, 3).map(lambda share: round(share, 3))


@given(SHARES, SHARES, SHARES, SHARES.filter(bool))
def test_a_mix_is_the_sum_of_its_shares(mse, mae, huber, log_cosh):
    generator = torch.Generator().manual_seed(1)
    pair = torch.randn(2, 2, 4, 4, 4, generator=generator)
    mix = {"mse": mse, "mae": mae, "huber": huber, "log_cosh": log_cosh}
    expected = sum(
        (share * sample_losses(*pair, only(name)) for name, share in mix.items()), torch.zeros(2)
    )
    torch.testing.assert_close(sample_losses(*pair, LossConfig(**mix)), expected)


def test_a_mask_weighs_cells_and_stops_their_gradient(pair):
    mask = torch.zeros(3, 1, 8, 6)
    mask[0], mask[1, :, :4] = 1, 1
    prediction, target = pair
    losses = sample_losses(prediction, target, MSE, mask)
    full = sample_losses(prediction, target, MSE)
    assert losses[0] == full[0]
    assert losses[2] == 0
    error = (prediction - target).square()
    torch.testing.assert_close(losses[1], error[1, :, :4].mean() / 2)
    (gradient,) = torch.autograd.grad(losses.sum(), prediction)
    assert gradient[1, :, 4:].abs().max() == 0
    assert gradient[1, :, :4].abs().min() > 0


def test_a_normalized_mask_makes_a_small_area_count_as_much_as_a_whole_image(pair):
    prediction, target = pair
    mask = torch.zeros(3, 1, 8, 6)
    mask[0], mask[1, :, :2] = 1, 1
    losses = sample_losses(prediction, target, MSE, mask, normalize=True)
    error = (prediction - target).square()
    torch.testing.assert_close(losses[:2], torch.stack([error[0].mean(), error[1, :, :2].mean()]))
    assert losses[2] == 0
    assert torch.autograd.grad(losses.sum(), prediction)[0].isfinite().all()


@given(st.floats(0, 1, width=32))
def test_what_a_mask_leaves_out_keeps_its_least_weight(weight):
    mask = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3)
    found = training_mask(mask, weight).flatten().tolist()
    assert found == [weight, max(0.25, weight), 1]
