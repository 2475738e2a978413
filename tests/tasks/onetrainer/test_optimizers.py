from typing import Any, get_args

import pytest

from tasks.config.optimizers import Optimizer
from tasks.onetrainer.optimizer_kinds import OPTIMIZERS, SERIES, SOURCES
from tasks.onetrainer.optimizer_rows import OPTIMIZER
from tests.tasks.onetrainer.onetrainer_files import SD15_LORA, OneTrainer, Result

KINDS = {
    get_args(model.model_fields["kind"].annotation)[0]: model
    for model in get_args(get_args(Optimizer)[0])
}


def imported(onetrainer: OneTrainer, rate: float = 1.0, **said: Any) -> Result:
    onetrainer.photos()
    encoder = {"train": False}
    config = {**SD15_LORA, "optimizer": said, "learning_rate": rate, "text_encoder": encoder}
    return onetrainer.imported(config)


def test_every_option_of_the_table_exists_on_both_sides() -> None:
    for theirs, ours in OPTIMIZERS.items():
        fields = KINDS[ours.kind].model_fields
        assert set(ours.options) <= set(fields), theirs
        for name in ours.options:
            source = ours.sources.get(name, SOURCES.get(name, name))
            assert f"optimizer.{source}" in OPTIMIZER, (theirs, name)
        assert {f"optimizer.{key}" for key in ours.untaken} <= OPTIMIZER.keys(), theirs
    assert {f"optimizer.{key}" for keys in SERIES.values() for key in keys} <= OPTIMIZER.keys()


def test_all_kinds_of_ours_but_those_that_onetrainer_has_not_are_reached() -> None:
    reached = {ours.kind for ours in OPTIMIZERS.values()}
    assert KINDS.keys() - reached == {"radam", "adan"}


@pytest.mark.parametrize("theirs", OPTIMIZERS)
def test_every_optimizer_loads_with_what_onetrainer_takes_for_null(
    onetrainer: OneTrainer, theirs: str
) -> None:
    ours = OPTIMIZERS[theirs]
    result = imported(onetrainer, optimizer=theirs)
    optimizer = result.checked.train.optimizer
    assert optimizer.kind == ours.kind
    told = result.left.get("optimizer.optimizer", "")
    assert told.startswith("different") is bool(ours.told)


@pytest.mark.parametrize("theirs", OPTIMIZERS)
def test_a_value_of_each_option_arrives(onetrainer: OneTrainer, theirs: str) -> None:
    """Each number that an optimizer reads is given a value of its own and looked for."""
    ours = OPTIMIZERS[theirs]
    numbers = {name: value for name, value in ours.options.items() if type(value) is float}
    numbers.pop("adamw_rate", None)
    sources = {name: ours.sources.get(name, SOURCES.get(name, name)) for name in numbers}
    said = {key: 0.01 + number / 1000 for number, key in enumerate(sources.values())}
    said |= {key: -0.5 for key in said if key == "decay_rate"}
    optimizer = imported(onetrainer, optimizer=theirs, **said).config.train.optimizer
    for name, key in sources.items():
        assert getattr(optimizer, name) == said[key], (theirs, name)


def test_adamw_comes_over_and_its_other_options_are_told(onetrainer: OneTrainer) -> None:
    optimizer = {
        "optimizer": "ADAMW",
        "beta1": 0.8,
        "beta2": 0.95,
        "eps": 1e-6,
        "weight_decay": 0.1,
        "amsgrad": True,
        "stochastic_rounding": False,
        "fused_back_pass": True,
        "d_coef": 2.0,
        "momentum": None,
    }
    result = imported(onetrainer, **optimizer)
    ours: Any = result.config.train.optimizer
    assert (ours.betas, ours.eps, ours.weight_decay) == ((0.8, 0.95), 1e-6, 0.1)
    assert ours.amsgrad
    told = {key for key in result.left if key.startswith("optimizer.")}
    assert told == {"optimizer.fused_back_pass"}  # AdamW has no d_coef in OneTrainer either


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        (
            {"optimizer": "ADAFACTOR", "eps": 1e-20, "scale_parameter": False, "beta1": 0.9},
            {"eps": (1e-20, 1e-3), "scale_parameter": False, "beta1": 0.9},
        ),
        (
            {"optimizer": "PRODIGY", "d_coef": 2.0, "growth_rate": float("inf"), "decouple": True},
            {"d_coef": 2.0, "growth_rate": None, "weight_decouple": True, "beta3": None},
        ),
        (
            {"optimizer": "CAME", "beta3": 0.99, "eps": 1e-25, "eps2": 1e-10},
            {"betas": (0.9, 0.999, 0.99), "eps1": 1e-25, "eps2": 1e-10},
        ),
        ({"optimizer": "TIGER", "beta1": 0.9}, {"beta": 0.9}),
        ({"optimizer": "ADOPT", "decoupled_decay": True}, {"weight_decouple": True}),
        ({"optimizer": "AIDA", "k": 3}, {"k": 3}),
        ({"optimizer": "MUON", "muon_adam_lr": 0.25}, {"adamw_rate": 0.25, "momentum": 0.95}),
        ({"optimizer": "MUON_ADV"}, {"use_adjusted_lr": True, "nesterov": False}),
    ],
)
def test_options_under_other_names(
    onetrainer: OneTrainer, said: dict[str, Any], ours: dict[str, Any]
) -> None:
    optimizer = imported(onetrainer, **said).config.train.optimizer
    assert {name: getattr(optimizer, name) for name in ours} == ours


def test_options_without_a_place_are_told(onetrainer: OneTrainer) -> None:
    said = {"optimizer": "PRODIGY_PLUS_SCHEDULE_FREE", "use_grams": True, "cautious": True}
    left = imported(onetrainer, **said).left
    assert left["optimizer.use_grams"].startswith("not yet")
    assert "optimizer.cautious" not in left  # it does not read this one


def test_a_learning_rate_of_an_optimizer_without_a_place_is_not_given_to_adamw(
    onetrainer: OneTrainer,
) -> None:
    result = imported(onetrainer, rate=1.0, optimizer="SINKSGD_ADV")
    assert result.config.train.learning_rate == 1e-4
    assert result.config.train.optimizer.kind == "adamw"
    assert "meant for SINKSGD_ADV" in result.left["learning_rate"]
    assert result.left["optimizer.optimizer"].startswith("not yet")


def test_adafactors_relative_step_is_a_schedule(onetrainer: OneTrainer) -> None:
    said = {"optimizer": "ADAFACTOR", "relative_step": True, "scale_parameter": True}
    train = imported(onetrainer, **said, warmup_init=True).config.train
    assert (train.learning_rate, train.schedule.kind) == (0.01, "adafactor")
    assert train.schedule.warmup_steps == 10_000
    assert imported(onetrainer, **said).config.train.schedule.warmup_steps == 0


def test_an_optimizer_that_finds_one_rate_takes_none_for_a_part(onetrainer: OneTrainer) -> None:
    config = {**SD15_LORA, "optimizer": {"optimizer": "PRODIGY"}, "learning_rate": 1.0}
    onetrainer.photos()
    result = onetrainer.imported({**config, "text_encoder": {"learning_rate": 0.5}})
    assert result.left["text_encoder.learning_rate"].startswith("different")
    assert result.checked.parts.text_encoder_1.train


def test_schedule_free_is_constant_and_has_no_averaged_weights(onetrainer: OneTrainer) -> None:
    onetrainer.photos()
    said = {"learning_rate_scheduler": "COSINE", "learning_rate_min_factor": 0.1, "ema": "GPU"}
    optimizer = {"optimizer": "SCHEDULE_FREE_ADAMW"}
    result = onetrainer.imported({**SD15_LORA, **said, "optimizer": optimizer})
    train = result.checked.train
    assert (train.schedule.kind, train.ema.kind) == ("constant", "off")
    assert result.comment("kind") or "was COSINE" in result.text
    assert result.left["ema"].startswith("different")
