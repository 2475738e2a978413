"""Draws depend on their coordinates alone, and each purpose has draws of its own."""

import pytest
import torch

from tasks.train.noise import draw_seed, normal, offset_noise, perturbation, uniform


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


def test_draws_are_those_of_earlier_versions():
    # A resumed run of an earlier version must go on with the same noise.
    assert draw_seed(42, "noise", 0, 0) == 3029097984562569716
    assert uniform(42, "timestep", 3, 17) == 0.6422079325857696
    expected = torch.tensor([1.0201385021209717, 0.4140360355377197])
    assert torch.equal(normal((2, 1, 1), 42, 0, [5]).flatten(), expected)


def test_uniform_draws_fill_the_unit_interval_evenly():
    draws = [uniform(1, "timestep", 0, position) for position in range(4000)]
    assert min(draws) >= 0
    assert max(draws) < 1
    assert abs(sum(draws) / len(draws) - 0.5) < 0.02


@pytest.mark.parametrize(
    ("draw", "shape"),
    [(normal, (4, 8, 8)), (perturbation, (4, 8, 8)), (offset_noise, 4)],
    ids=["noise", "perturbation", "offset"],
)
def test_noise_of_a_position_is_the_same_in_any_batch(draw, shape):
    together = draw(shape, 1, 0, range(4))
    assert torch.equal(together[2:3], draw(shape, 1, 0, range(2, 3)))
    assert torch.equal(together[[3, 0]], draw(shape, 1, 0, [3, 0]))
    assert not torch.equal(together, draw(shape, 2, 0, range(4)))
    assert not torch.equal(together, draw(shape, 1, 1, range(4)))
    many = draw(shape, 1, 0, range(4000))
    assert abs(many.mean().item()) < 0.05
    assert abs(many.std().item() - 1) < 0.05


def test_offsets_are_one_number_per_channel_and_independent_of_the_noise():
    offsets = offset_noise(4, 1, 0, range(2000))
    assert offsets.shape == (2000, 4, 1, 1)
    noise, more = normal((4, 1, 1), 1, 0, range(2000)), perturbation((4, 1, 1), 1, 0, range(2000))
    flat = torch.stack([offsets.flatten(), noise.flatten(), more.flatten()])
    assert (torch.corrcoef(flat) - torch.eye(3)).abs().max() < 0.05
    assert (torch.corrcoef(offsets.flatten(1).T) - torch.eye(4)).abs().max() < 0.1


def test_offset_noise_moves_the_mean_of_a_channel_as_much_as_its_strength():
    shape, positions = (4, 16, 16), range(500)
    plain = normal(shape, 1, 0, positions)
    offset = plain + 0.1 * offset_noise(4, 1, 0, positions)
    before, after = (noise.mean(dim=(2, 3)).var().item() for noise in (plain, offset))
    assert after - before == pytest.approx(0.1**2, rel=0.15)
