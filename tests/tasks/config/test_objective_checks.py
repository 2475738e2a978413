"""What is said of objective options that a family does not have, and where nothing is said."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from tasks.config.loading import load_config
from tasks.config.objective_checks import WEIGHTINGS
from tasks.config.objectives import LossConfig
from tasks.config.problems import ConfigError
from tasks.families import FAMILIES

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def flowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more family, whose objective is flow."""
    record = replace(FAMILIES["sd15"], name="flowing", objective="flow")
    monkeypatch.setitem(FAMILIES, "flowing", record)


def found(file: Path, family: str, *options: str) -> dict[str, str]:
    try:
        chosen = [f"model.family={family}", *(f"train.{option}" for option in options)]
        load_config(file, chosen, {})
    except ConfigError as error:
        return {problem.key: problem.message for problem in error.problems}
    return {}


def predicts(project: Path, prediction: str | None) -> None:
    """Lets the model's scheduler say what the model predicts; None: it does not say."""
    (project / "model" / "scheduler").mkdir()
    said = {} if prediction is None else {"prediction_type": prediction}
    (project / "model" / "scheduler" / "scheduler_config.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("family", "option", "key", "told"),
    [
        ("sd15", "loss.weighting=sigma", "loss.weighting", "flow models, which sd15 does not have"),
        ("flowing", "loss.weighting=min_snr_gamma", "loss.weighting", 'use "constant" or "sigma"'),
        ("flowing", "loss.weighting=debiased", "loss.weighting", "signal-to-noise ratio"),
        ("flowing", "loss.weighting=p2", "loss.weighting", "signal-to-noise ratio"),
        (
            "flowing",
            "noise.zero_terminal_snr=true",
            "noise.zero_terminal_snr",
            "pure noise already",
        ),
        ("sd15", "timesteps.dynamic_shift=true", "timesteps.dynamic_shift", "set train.timesteps"),
        ("sd15", "mask.enabled=true", "mask.enabled", "no concept that trains has masks"),
    ],
)
def test_what_a_family_does_not_have_is_refused(
    write: Write, family: str, option: str, key: str, told: str
) -> None:
    messages = found(write(), family, option)
    assert list(messages) == [f"train.{key}"]
    assert told in messages[f"train.{key}"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["distribution=logit_normal", "scale=0"], "greater than 0, as a standard deviation is"),
        (["distribution=beta", "scale=-1"], "greater than 0 and at most"),
        (["distribution=beta", "scale=1e5"], "greater than 0 and at most"),
        (["distribution=heavy_tail", "scale=1.8"], "from -1 to 1.752"),
        (["distribution=heavy_tail", "scale=-1.1"], "from -1 to 1.752"),
        (["distribution=inverted_parabola", "scale=-1"], "at least 0"),
        (["distribution=inverted_parabola", "scale=8", "bias=1.1"], "above 0 for some s"),
    ],
)
def test_a_scale_that_makes_no_distribution_is_refused(
    write: Write, options: list[str], told: str
) -> None:
    messages = found(write(), "sd15", *(f"timesteps.{option}" for option in options))
    assert list(messages) == ["train.timesteps.scale"]
    assert told in messages["train.timesteps.scale"]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("flowing", ["timesteps.dynamic_shift=true", "loss.weighting=sigma"]),
        ("flowing", ["noise.offset=0.1", "noise.perturbation=0.1", "timesteps.shift=3"]),
        ("sd15", ["timesteps.shift=3", "loss.weighting=min_snr_gamma"]),
        ("sd15", ["timesteps.scale=-5"]),
        ("sd15", ["timesteps.distribution=sigmoid", "timesteps.scale=-5"]),
        ("sd15", ["timesteps.distribution=inverted_parabola", "timesteps.bias=0.9"]),
        ("sd15", ["timesteps.distribution=heavy_tail", "timesteps.scale=1.75"]),
        ("sd15", ["mask.prior_weight=0.5"]),
    ],
)
def test_what_a_family_has_or_nobody_chose_is_allowed(
    write: Write, family: str, options: list[str]
) -> None:
    assert found(write(), family, *options) == {}


@pytest.mark.parametrize("source", ["file", "alpha"])
def test_masked_training_wants_one_concept_with_masks(write: Write, source: str) -> None:
    second = "[[concepts]]\nname = 'masked'\npath = 'photos'\n"
    file = write(f"{second}[concepts.image]\nmask_source = '{source}'\n")
    assert found(file, "sd15", "mask.enabled=true") == {}
    off = write(f"{second}enabled = false\n[concepts.image]\nmask_source = '{source}'\n")
    assert list(found(off, "sd15", "mask.enabled=true")) == ["train.mask.enabled"]


@pytest.mark.parametrize("prediction", ["epsilon", None])
def test_a_zero_terminal_snr_is_refused_where_the_model_predicts_noise(
    project: Path, write: Write, prediction: str | None
) -> None:
    predicts(project, prediction)
    messages = found(write(), "sd15", "noise.zero_terminal_snr=true")
    assert list(messages) == ["train.noise.zero_terminal_snr"]
    assert "would only repeat its input" in messages["train.noise.zero_terminal_snr"]


def test_a_zero_terminal_snr_is_allowed_where_the_model_predicts_v(
    project: Path, write: Write
) -> None:
    predicts(project, "v_prediction")
    assert found(write(), "sd15", "noise.zero_terminal_snr=true") == {}


def test_every_weighting_is_allowed_for_some_objective() -> None:
    every = {name for names in WEIGHTINGS.values() for name in names}
    assert every == set(get_args(LossConfig.model_fields["weighting"].annotation))
