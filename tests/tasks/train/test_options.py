"""Every setting of `[train]` and `[parts]` has an effect, shown here or by the test that is named.

What a family does not have is refused: `tests/tasks/config/test_*_checks.py`. Optimizers' own
settings: `test_optimizers.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.config import schema
from tasks.config.methods import Parts
from tasks.config.training import TrainConfig
from tasks.train.backup import AVERAGES, newest_backup
from tests.tasks.train.test_ranks import with_parts

HERE = Path(__file__).parent
LORA, LOHA, LOKR = ({"method.kind": kind} for kind in ("lora", "loha", "lokr"))
WORD = {"placeholder": "prompt", "initial_text": "a", "num_vectors": 2}
SGD = {"optimizer.kind": "sgd", "clip_grad_norm": 0.0}
LINEAR = {"schedule.kind": "linear"}

CHANGES: dict[str, tuple[Mapping[str, Any], Any]] = {
    "method.kind": ({}, "loha"),
    "method.rank": ({}, 3),
    "method.alpha": ({}, 8.0),
    "method.layers": ({}, ["attn2"]),
    "method.dora": ({}, True),
    "method.dropout": ({}, 0.5),
    "method.factor": (LOKR, 2),
    "embeddings": ({}, [WORD]),
    "embeddings.0.placeholder": ({"embeddings": [WORD]}, "other"),
    "embeddings.0.initial_text": ({"embeddings": [WORD]}, "b"),
    "embeddings.0.num_vectors": ({"embeddings": [WORD]}, 3),
    "embeddings.0.learning_rate": ({"embeddings": [WORD]}, 0.5),
    "embeddings.0.stop_after": ({"embeddings": [WORD]}, {"n": 1, "unit": "step"}),
    "schedule.kind": ({}, "linear"),
    "schedule.warmup_steps": (LINEAR, 2),
    "schedule.warmup_fraction": (LINEAR, 0.5),
    "schedule.min_factor": (LINEAR, 0.5),
    "schedule.cycles": ({"schedule.kind": "cosine_with_restarts"}, 2),
    "schedule.power": ({"schedule.kind": "polynomial"}, 3.0),
    "learning_rate": ({}, 1e-3),
    "learning_rate_scaler": ({}, "batch"),
    "batch_size": ({}, 4),
    "gradient_accumulation_steps": ({}, 2),
    "clip_grad_norm": (SGD | {"learning_rate": 1.0}, 1e-3),
    "train_dtype": ({}, "bfloat16"),
    "weight_dtype": ({}, "bfloat16"),
    "timesteps.distribution": ({}, "logit_normal"),
    "timesteps.scale": ({"timesteps.distribution": "logit_normal"}, 2.0),
    "timesteps.bias": ({"timesteps.distribution": "logit_normal"}, 1.0),
    "timesteps.min": ({}, 0.5),
    "timesteps.max": ({}, 0.5),
    "timesteps.shift": ({}, 3.0),
    "noise.offset": ({}, 0.5),
    "noise.perturbation": ({}, 0.5),
    "loss.mse": ({"loss.mae": 1.0}, 0.0),
    "loss.mae": ({}, 1.0),
    "loss.huber": ({}, 1.0),
    "loss.huber_delta": ({"loss.huber": 1.0}, 0.1),
    "loss.log_cosh": ({}, 1.0),
    "loss.weighting": ({}, "min_snr_gamma"),
    "loss.gamma": ({"loss.weighting": "min_snr_gamma"}, 1.0),
    "loss_scaler": (SGD, "batch"),
    "ema.kind": ({}, "cpu"),
    "ema.decay": ({"ema.kind": "cpu", "ema.update_every": 1}, 0.1),
    "ema.update_every": ({"ema.kind": "cpu"}, 1),
    "caption_dropout": ({}, 0.9),
    "seed": ({}, 9),
    "text_encoder_1.train": ({}, True),
    "text_encoder_1.learning_rate": ({"text_encoder_1.train": True}, 0.5),
    "text_encoder_1.stop_after": ({"text_encoder_1.train": True}, {"n": 1, "unit": "step"}),
    "denoiser.train": ({"text_encoder_1.train": True}, False),
    "denoiser.learning_rate": ({}, 1e-3),
    "denoiser.stop_after": ({"text_encoder_1.train": True}, {"n": 1, "unit": "step"}),
}
"""Setting to what makes it count, and its new value."""

ELSEWHERE = {
    "method.initial": "test_training.py::test_an_adapter_goes_on_from_a_file",
    "schedule.function": "test_schedules.py::test_a_custom",
    "schedule.params": "test_schedules.py::test_a_custom",
    "epochs": "test_training.py::test_an_epoch_says_what_it_repeats",
    "max_steps": "test_training.py::test_stopping_and_going_on_equals_never_stopping",
    "gradient_checkpointing": "test_acceleration.py::test_checkpointing",
    "base_weights": "test_acceleration.py::test_base_weights",
    "compile": "test_acceleration.py::test_compiled_blocks",
    "attention": "test_acceleration.py::test_the_attention_kernel",
    "tf32": "test_acceleration.py::test_tf32",
    "timesteps.dynamic_shift": "test_timesteps.py::test_",
    "noise.zero_terminal_snr": "test_objectives.py::test_",
    "mask.enabled": "test_parts.py::test_masks_weigh_cells_and_keep_the_prior_outside",
    "mask.unmasked_weight": "test_parts.py::test_masks_weigh_cells_and_keep_the_prior_outside",
    "mask.unmasked_probability": "test_masks.py::test_masks_are_read",
    "mask.normalize": "test_parts.py::test_masks_weigh_cells_and_keep_the_prior_outside",
    "mask.prior_weight": "test_parts.py::test_masks_weigh_cells_and_keep_the_prior_outside",
    "non_finite": "test_training.py::test_a_step_that_is_not_finite_may_be_left_out",
    "processes": "test_ranks.py::test_two_ranks_train_what_one_trains",
    "device": "test_acceleration.py::test_the_device",
    "grace_seconds": "test_runner.py::test_a_watchdog_ends_a_process_whose_main_thread_hangs",
    "timeout_hours": "../../faults/test_kill_training.py::test_a_training_whose_time_is_over",
    "retries": "../../faults/test_kill_training.py::test_killed_trainings_go_on",
    "halve_batch_on_oom": "test_training.py::test_when_memory_runs_out",
    "backup.every": "test_cadences.py::test_steps_and_epochs",
    "backup.unit": "test_cadences.py::test_steps_and_epochs",
    "backup.keep": "test_backup.py::test_keep_last",
    "save.every": "test_training.py::test_models_in_between_are_saved_at_their_cadence",
    "save.unit": "test_cadences.py::test_steps_and_epochs",
    "save.keep": "test_training.py::test_models_in_between_are_saved_at_their_cadence",
    "save.skip_first": "test_training.py::test_models_in_between_are_saved_at_their_cadence",
    "validation.every": "test_validation.py::test_losses_are_told_by_concept_and_by_quantile",
    "validation.unit": "test_validation.py::test_losses_are_told_by_concept_and_by_quantile",
    "validation.quantiles": "test_validation.py::test_losses_are_told_by_concept_and_by_quantile",
    "sample.every": "test_training.py::test_samples_change_nothing",
    "sample.unit": "test_cadences.py::test_steps_and_epochs",
    "sample.skip_first": "test_cadences.py::test_steps_and_epochs",
    "sample.prompts": "test_training.py::test_samples_change_nothing",
    "sample.negative_prompt": "../sample/test_draw.py::test_",
    "sample.steps": "../sample/test_draw.py::test_",
    "sample.guidance": "../sample/test_draw.py::test_",
    "sample.seed": "../sample/test_draw.py::test_",
    "sample.width": "test_families.py::test_a_family",
    "sample.height": "test_families.py::test_a_family",
}
"""Setting to the test that shows its effect."""


def leaves() -> set[str]:
    """All settings that are no tables; encoders are alike, and optimizers tested by themselves."""
    parts = [key for key in schema.all_keys(Parts) if not key.startswith("text_encoder_")]
    parts += [key for key in schema.all_keys(Parts) if key.startswith("text_encoder_1")]
    known = {*schema.all_keys(TrainConfig), *parts}
    tables = {key.rpartition(".")[0].removesuffix(".0") for key in known}
    inside = ("optimizer.", "embeddings.0.stop_after.", "denoiser.stop_after.")
    inside += ("text_encoder_1.stop_after.",)
    kept = {"embeddings", *(key for key in known if key.endswith(".stop_after"))}
    leaves = {key for key in known - tables if not key.startswith(inside)}
    return leaves - {"optimizer"} | kept


def test_no_setting_is_left_out():
    assert leaves() == CHANGES.keys() | ELSEWHERE.keys()
    assert not CHANGES.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_test_that_shows_it_is_there(key):
    file, _, name = ELSEWHERE[key].partition("::")
    assert f"def {name}" in (HERE / file).read_text()


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as tables; positions are of lists that are there already."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        *tables, last = key.split(".")
        place: Any = result
        for name in tables:
            place = place[int(name)] if name.isdigit() else place.setdefault(name, {})
        place[last] = value
    return result


def trained(bench, run_id: str, settings: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """All trained tensors of a short run."""
    import copy

    named = {"max_steps": 3, "schedule": {"kind": "constant"}, "backup": {"every": 100}}
    table = named | nested(copy.deepcopy(dict(settings)))
    table["schedule"] = named["schedule"] | table["schedule"]
    table["method"] = {"kind": "lora", "rank": 2, "alpha": 2.0} | table.get("method", {})
    parts = {name: table.pop(name) for name in ("denoiser", "text_encoder_1") if name in table}
    spec = with_parts(bench.spec(run_id, **table), parts)
    values = spec.config.model_dump()
    values["model"]["output_dtype"] = "float32"
    assert bench.train(spec) == "done"
    backup = newest_backup(spec.backups)
    assert backup is not None
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(backup.glob("*.safetensors")):
        if not path.name.startswith("optimizer"):
            tensors |= {f"{path.stem}:{name}": one for name, one in load_file(path).items()}
    assert "ema.kind" not in settings or (backup / AVERAGES).is_file()
    return tensors


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_setting_trains_something_else(bench, key):
    needed, value = CHANGES[key]
    before = trained(bench, "before", needed)
    after = trained(bench, "after", {**needed, key: value})
    same = before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )
    assert not same
