from typing import Any

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError
from tasks.families import FAMILIES as OURS
from tasks.onetrainer.convert import CONFIG_ROWS
from tasks.onetrainer.model_rows import FAMILIES
from tests.tasks.onetrainer.onetrainer_files import (
    FLUX_LORA,
    SD15_FULL,
    SD15_LORA,
    SDXL_LORA,
    SDXL_LORA_OLD,
    OneTrainer,
)


def test_a_lora_preset_extends_ours_and_means_what_it_meant(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported(SD15_LORA)
    assert result.toml["extends"] == "sd15-lora"
    config = result.config
    assert config.model.family == "sd15"
    assert config.model.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert config.model.output == str(onetrainer.folder / "models/lora.safetensors")
    assert config.model.output_format == "kohya_lora"
    assert config.model.output_dtype == "float32"
    assert config.train.learning_rate == 0.0003
    assert config.train.batch_size == 4
    assert config.train.epochs == 100
    method, schedule = config.train.method, config.train.schedule
    assert (method.kind, method.rank, method.alpha, method.layers) == ("lora", 16, 1.0, ())
    assert (schedule.kind, schedule.warmup_steps, schedule.min_factor) == ("constant", 200, 0.0)
    assert config.train.train_dtype == "float16"
    assert config.train.gradient_checkpointing
    assert config.train.caption_dropout == 0.0


def test_what_our_preset_or_our_defaults_say_already_is_not_written(
    onetrainer: OneTrainer,
) -> None:
    toml = onetrainer.imported(SD15_LORA).toml
    assert "resolution" not in toml["data"]
    assert "rank" not in toml["train"]["method"]
    assert "optimizer" not in toml["train"]
    assert "output_format" not in toml["model"]
    assert toml["concepts"] == [{"name": "a", "path": "photos"}]


def test_defaults_of_onetrainers_that_differ_from_ours_are_written_and_named(
    onetrainer: OneTrainer,
) -> None:
    result = onetrainer.imported(SD15_LORA)
    assert result.comment("alpha") == "OneTrainer's default"
    assert result.comment("warmup_steps") == "OneTrainer's default"
    assert result.comment("learning_rate") == ""


def test_a_text_encoder_trains_where_onetrainers_default_says_so(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported({**SD15_LORA, "text_encoder": {"learning_rate": 1e-5}})
    encoder = result.config.parts.text_encoder_1
    assert (encoder.train, encoder.learning_rate) == (True, 1e-5)
    assert encoder.stop_after is not None
    assert (encoder.stop_after.n, encoder.stop_after.unit) == (30, "epoch")
    assert "train = true  # OneTrainer's default" in result.text


def test_a_default_without_a_place_here_is_told_too(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported(SD15_LORA)
    assert result.left["rolling_backup"].startswith("different: OneTrainer keeps all backups")
    assert "rolling_backup = false  (OneTrainer's default)" in result.text
    assert "ema" not in result.left


def test_sdxl_has_its_own_preset_and_sizes(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported({**SDXL_LORA, "resolution": "1000, 500"})
    assert result.toml["extends"] == "sdxl-lora"
    assert result.config.data.resolution == "1024,512"
    assert result.comment("resolution") == "was 1000, 500; a multiple of 64 is needed"
    assert result.config.train.gradient_accumulation_steps == 1
    assert not result.config.parts.text_encoder_2.train


def test_sd2_has_a_preset_of_its_own(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported({**SD15_LORA, "model_type": "STABLE_DIFFUSION_21"})
    assert (result.toml["extends"], result.config.model.family) == ("sd2-lora", "sd2")


@pytest.mark.parametrize(
    ("model_type", "theirs", "ours", "output"),
    [
        ("STABLE_DIFFUSION_15", "ORIGINAL_SINGLE_FILE", "single_file", "models/model.safetensors"),
        ("STABLE_DIFFUSION_15", "LEGACY_SAFETENSORS", "single_file", "models/model.safetensors"),
        ("STABLE_DIFFUSION_15", "DIFFUSERS", "diffusers", "models/model"),
        ("PIXART_SIGMA", "LEGACY_SAFETENSORS", "diffusers", "models/model"),
    ],
)
def test_a_full_training_comes_out_in_its_format(
    onetrainer: OneTrainer, model_type: str, theirs: str, ours: str, output: str
) -> None:
    said = {"model_type": model_type, "output_model_format": theirs}
    result = onetrainer.imported({**SD15_FULL, **said})
    config = result.config
    assert result.toml["extends"] == f"{config.model.family}-full"
    assert config.train.method.kind == "full"
    assert config.model.output_format == ours
    assert config.model.output == str(onetrainer.folder / output)
    assert config.train.learning_rate == 3e-6
    assert ("output_model_format" in result.left) is (model_type == "PIXART_SIGMA")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [*FAMILIES.items(), ("FLUX_DEV_1 schnell", "flux_schnell"), ("FLUX_2 klein", "flux2_klein")],
)
def test_model_types_are_our_families(onetrainer: OneTrainer, theirs: str, ours: str) -> None:
    model_type, _, base = theirs.partition(" ")
    said = {"model_type": model_type, "base_model_name": f"someone/model-{base}"}
    result = onetrainer.imported({**SD15_LORA, **said})
    is_there = ours in OURS
    assert result.config.model.family == (ours if is_there else model_type.lower())
    assert ("model_type" in result.left) is not is_there


def test_an_unknown_family_keeps_the_rest_and_is_refused_by_commands(
    onetrainer: OneTrainer,
) -> None:
    result = onetrainer.imported({**FLUX_LORA, "model_type": "HI_DREAM_FULL"})
    config = result.config
    assert config.model.family == "hi_dream_full"
    assert (config.data.resolution, config.train.batch_size) == ("768", 4)
    assert config.model.output_format == "diffusers_lora"
    assert config.train.train_dtype == "bfloat16"
    assert result.left["model_type"].startswith("not yet: this version trains")
    with pytest.raises(ConfigError, match='model.family = "hi_dream_full"'):
        load_config(result.file, env={})


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        ({"training_method": "FINE_TUNE_VAE"}, "parts.denoiser.train"),
        (
            {"unet": {"train": False}, "text_encoder": {"train": False}},
            "parts.denoiser.train",
        ),
        ({"model_type": "STABLE_DIFFUSION_20_DEPTH"}, "model.family"),
    ],
)
def test_what_is_not_yet_is_never_trained_as_something_else(
    onetrainer: OneTrainer, said: dict[str, Any], refusal: str
) -> None:
    result = onetrainer.imported({**SD15_LORA, **said})
    assert result.config  # its types are right
    with pytest.raises(ConfigError, match=refusal):
        load_config(result.file, env={})


def test_the_oldest_layout_says_the_same_in_other_words(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported(SDXL_LORA_OLD)
    train, parts = result.config.train, result.config.parts
    assert (train.learning_rate, parts.denoiser.learning_rate) == (0.0003, 0.0001)
    assert (parts.text_encoder_1.learning_rate, parts.denoiser.stop_after) == (0.0002, None)
    assert train.optimizer.betas == (0.85, 0.999)
    assert train.optimizer.weight_decay == 0.02
    assert not train.gradient_checkpointing
    assert (train.noise.offset, train.loss.weighting, train.loss.gamma) == (
        *(0.05, "min_snr_gamma", 5.0),
    )
    assert train.timesteps.distribution == "uniform"  # a weight of 0 meant it before version 4
    assert result.config.data.resolution == "1024"
    assert result.config.model.output_format == "kohya_lora"
    assert result.comment("output_format").startswith("was LEGACY_LORA")
    unknown = [key for key, why in result.left.items() if why.startswith("unknown")]
    assert unknown == []


def test_a_saved_file_says_the_same_as_the_short_preset_that_it_came_from(
    onetrainer: OneTrainer,
) -> None:
    """OneTrainer saves all settings of all models, most of them at their defaults."""
    saved: dict[str, Any] = {"__version": 11}
    for key, row in CONFIG_ROWS.items():
        place = saved
        *tables, name = key.split(".")
        for table in tables:
            place = place.setdefault(table, {"__version": 0})
        place[name] = row.default
    for key, value in SD15_LORA.items():
        saved[key] = {**saved[key], **value} if isinstance(value, dict) else value
    short, long = onetrainer.imported(SD15_LORA), onetrainer.imported(saved)
    assert long.toml == short.toml
    assert long.left == short.left
    assert "OneTrainer's default" not in long.text
