import pytest
import torch

from tasks.config.objectives import Ema
from tasks.train.ema import averaged_weights, decay


def test_the_decay_is_capped_at_the_start_and_constant_later():
    settings = Ema(kind="cpu", decay=0.9)
    assert decay(settings, 1) == pytest.approx(2 / 11)
    assert decay(settings, 10) == pytest.approx(11 / 20)
    assert decay(settings, 1000) == 0.9


def test_the_copy_follows_the_weights_at_its_interval():
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = averaged_weights(Ema(kind="cpu", decay=0.5, update_every=2), [parameter])
    assert average is not None
    with torch.no_grad():
        parameter.fill_(1.0)
    average.update(1)
    assert torch.equal(average.averages[0], torch.zeros(3))
    average.update(2)
    expected = 1 - 2 / 11
    torch.testing.assert_close(average.averages[0], torch.full((3,), expected))
    assert average.decay_at(3) == pytest.approx(2 / 11)


def test_in_use_puts_the_copy_in_and_the_weights_back():
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    average = averaged_weights(Ema(kind="device"), [parameter])
    assert average is not None
    average.averages[0].fill_(5.0)
    with average.in_use():
        assert parameter.tolist() == [5.0, 5.0]
    assert parameter.tolist() == [1.0, 1.0]
    assert averaged_weights(Ema(), [parameter]) is None
