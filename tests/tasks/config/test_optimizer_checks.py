from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError

Write = Callable[..., Path]
KIND = "train.optimizer.kind="
CONSTANT = "train.schedule.kind=constant"


@pytest.mark.parametrize(
    ("options", "key", "told"),
    [
        (
            [KIND + "schedule_free_adamw", "train.schedule.kind=cosine"],
            "train.schedule.kind",
            'must be "constant": schedule_free_adamw averages weights',
        ),
        (
            [KIND + "prodigy_plus", "train.learning_rate=1", "train.schedule.kind=linear"],
            "train.schedule.kind",
            'must be "constant"',
        ),
        (
            [KIND + "schedule_free_sgd", CONSTANT, "train.ema.kind=device"],
            "train.ema.kind",
            "averages the weights itself",
        ),
        (
            [KIND + "prodigy", "train.learning_rate=1e-4"],
            "train.learning_rate",
            "must be 1 or near it",
        ),
        (
            [KIND + "dadapt_adam", "train.learning_rate=1", "parts.denoiser.learning_rate=0.5"],
            "parts.denoiser.learning_rate",
            "finds one rate for all parts",
        ),
        (
            [KIND + "adamw_8bit", "train.device=cpu"],
            "train.optimizer.kind",
            'needs an NVIDIA GPU; use "adamw"',
        ),
        (
            ["train.weight_dtype=bfloat16", "train.train_dtype=float16"],
            "train.weight_dtype",
            'must be "float32"',
        ),
        (
            ["train.schedule.warmup_steps=3", "train.schedule.warmup_fraction=0.1"],
            "train.schedule",
            "not both",
        ),
        ([KIND + "adamww"], "train.optimizer", 'did you mean "adamw"?'),
        ([KIND + "lion", "train.optimizer.eps=0.1"], "train.optimizer.eps", "unknown setting"),
    ],
)
def test_what_does_not_go_together_is_explained(
    write: Write, options: list[str], key: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(), options, {})
    found = {problem.key: problem.message for problem in caught.value.problems}
    assert list(found) == [key]
    assert told in found[key]


@pytest.mark.parametrize(
    "options",
    [
        [KIND + "schedule_free_adamw", CONSTANT, "train.schedule.warmup_steps=10"],
        [KIND + "prodigy", "train.learning_rate=1", "train.schedule.kind=cosine"],
        [KIND + "prodigy", "train.learning_rate=1", "parts.denoiser.learning_rate=1"],
        [KIND + "adamw_8bit"],
        [KIND + "muon", "train.weight_dtype=bfloat16"],
    ],
)
def test_what_goes_together_is_allowed(write: Write, options: list[str]) -> None:
    assert load_config(write(), options, {})


def test_a_custom_schedule_takes_arguments_of_any_name(write: Write) -> None:
    table = """
    [train.schedule]
    kind = "custom"
    function = "torch.optim.lr_scheduler:OneCycleLR"
    params = { max_lr = "%LR%", total_steps = "%TOTAL_STEPS%", three_phase = true }
    """
    schedule = load_config(write(table), [], {}).train.schedule
    assert schedule.params == {
        "max_lr": "%LR%",
        "total_steps": "%TOTAL_STEPS%",
        "three_phase": True,
    }
    changed = load_config(write(table), ["train.schedule.params.pct_start=0.2"], {})
    assert changed.train.schedule.params["pct_start"] == 0.2
