import math
from typing import Any

import pytest

from tasks.config.objectives import Timesteps
from tasks.onetrainer.objective_rows import DISTRIBUTIONS, WEIGHTINGS
from tasks.train.timesteps import noise_share
from tests.tasks.onetrainer.onetrainer_files import (
    FLUX_LORA,
    SD15_LORA,
    OneTrainer,
    Result,
    concept,
)


def imported(onetrainer: OneTrainer, **said: Any) -> Result:
    return onetrainer.imported({**SD15_LORA, **said})


@pytest.mark.parametrize(
    ("theirs", "scale", "bias"),
    [
        ("UNIFORM", 1.0, 0.0),
        ("COS_MAP", 1.0, 0.0),
        ("LOGIT_NORMAL", 1.5, 0.25),
        ("HEAVY_TAIL", 0.5, 0.0),
        ("SIGMOID", 0.5, 0.25),
        ("INVERTED_PARABOLA", 0.5, 0.25),
    ],
)
def test_distributions_of_timesteps(
    onetrainer: OneTrainer, theirs: str, scale: float, bias: float
) -> None:
    said = {"timestep_distribution": theirs, "noising_weight": 0.5, "noising_bias": 0.25}
    said |= {"min_noising_strength": 0.1, "max_noising_strength": 0.9, "timestep_shift": 3.0}
    result = imported(onetrainer, **said)
    ours = result.config.train.timesteps
    assert ours.distribution == DISTRIBUTIONS[theirs]
    assert (ours.scale, ours.bias) == (scale, bias)
    assert (ours.min, ours.max, ours.shift) == (0.1, 0.9, 3.0)
    assert not [key for key in result.left if "nois" in key or "timestep" in key]
    onetrainer.photos()
    assert result.checked.train.timesteps == ours


def test_a_symmetric_beta_comes_over_and_another_does_not(onetrainer: OneTrainer) -> None:
    said = {"timestep_distribution": "BETA", "noising_weight": 2.0}
    ours = imported(onetrainer, **said, noising_bias=2.0).config.train.timesteps
    assert (ours.distribution, ours.scale) == ("beta", 2.0)
    other = imported(onetrainer, **said, noising_bias=1.0)
    assert other.config.train.timesteps.distribution == "uniform"
    assert other.left["timestep_distribution"].startswith("different: beta is symmetric")


@pytest.mark.parametrize("weight", [-0.5, 0.3, 1.0])
def test_a_heavy_tail_is_the_same_curve(onetrainer: OneTrainer, weight: float) -> None:
    """OneTrainer draws 1 - u - weight (cos(pi u / 2)^2 - 1 + u) for a uniform u."""
    said = {"timestep_distribution": "HEAVY_TAIL", "noising_weight": weight}
    ours = imported(onetrainer, **said).config.train.timesteps
    for u in (0.1, 0.4, 0.8):
        theirs = 1 - u - weight * (math.cos(math.pi / 2 * u) ** 2 - 1 + u)
        assert noise_share(1 - u, ours, 1.0) == pytest.approx(theirs)


def test_a_logit_normal_without_weight_has_a_deviation_of_one(onetrainer: OneTrainer) -> None:
    ours = imported(onetrainer, timestep_distribution="LOGIT_NORMAL").config.train.timesteps
    assert ours == Timesteps(distribution="logit_normal")


def test_a_dynamic_shift_is_for_flow_models(onetrainer: OneTrainer) -> None:
    said = {"dynamic_timestep_shifting": True}
    assert not imported(onetrainer, **said).config.train.timesteps.dynamic_shift
    assert onetrainer.imported({**FLUX_LORA, **said}).config.train.timesteps.dynamic_shift


def test_noise(onetrainer: OneTrainer) -> None:
    said = {"offset_noise_weight": 0.05, "perturbation_noise_weight": 0.1}
    said |= {"rescale_noise_scheduler_to_zero_terminal_snr": True}
    result = imported(onetrainer, **said, generalized_offset_noise=True)
    noise = result.config.train.noise
    assert (noise.offset, noise.perturbation, noise.zero_terminal_snr) == (0.05, 0.1, True)
    assert "the target stays" in result.comment("perturbation")
    assert result.left["generalized_offset_noise"].startswith("not yet")
    assert (
        "generalized_offset_noise" not in imported(onetrainer, generalized_offset_noise=True).left
    )


def test_losses(onetrainer: OneTrainer) -> None:
    said = {"mse_strength": 0.5, "mae_strength": 0.25, "log_cosh_strength": 0.125}
    loss = imported(onetrainer, **said, huber_strength=0.1, huber_delta=0.2).config.train.loss
    assert (loss.mse, loss.mae, loss.log_cosh, loss.huber, loss.huber_delta) == (
        *(0.5, 0.25, 0.125, 0.1, 0.2),
    )


@pytest.mark.parametrize(("theirs", "ours"), WEIGHTINGS.items())
def test_weights_of_timesteps(onetrainer: OneTrainer, theirs: str, ours: str) -> None:
    result = imported(onetrainer, loss_weight_fn=theirs, loss_weight_strength=0.7)
    loss = result.config.train.loss
    assert loss.weighting == ours
    assert loss.gamma == (0.7 if ours in ("min_snr_gamma", "p2") else 5.0)


def test_the_variance_of_pixart_alpha_is_not_trained(onetrainer: OneTrainer) -> None:
    assert "vb_loss_strength" in imported(onetrainer, model_type="PIXART_ALPHA").left
    assert "vb_loss_strength" not in imported(onetrainer, model_type="PIXART_SIGMA").left


@pytest.mark.parametrize("validates", [True, False])
def test_validation_measures_at_one_timestep_as_there(
    onetrainer: OneTrainer, validates: bool
) -> None:
    concepts = [concept(name="a"), concept(name="v", type="VALIDATION")]
    said = {"validation": validates, "validate_after": 3, "validate_after_unit": "EPOCH"}
    ours = onetrainer.imported({**SD15_LORA, **said}, concepts).config.train.validation
    assert (ours.every, ours.unit) == ((3, "epoch") if validates else (0, "epoch"))
    assert ours.quantiles == (1 if validates else 4)
    # Without such concepts there is nothing to say.
    assert "validation" not in imported(onetrainer, **said).toml["train"]
