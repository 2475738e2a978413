from typing import Any

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError
from tasks.onetrainer.convert import CONFIG_ROWS
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
    assert config.train.method.model_dump() == {"kind": "lora", "rank": 16, "alpha": 1.0}
    assert config.train.schedule.model_dump() == {
        "kind": "constant",
        "warmup_steps": 200,
        "min_factor": 0.0,
    }
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


def test_a_default_without_a_place_here_is_told_too(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported(SD15_LORA)
    assert result.left["text_encoder.train"].startswith("not yet: text encoders are not trained")
    assert "text_encoder.train = true  (OneTrainer's default)" in result.text
    assert result.left["backup_after"].startswith("different: counted in steps or epochs")
    assert "ema" not in result.left


def test_sdxl_has_its_own_preset_and_sizes(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported({**SDXL_LORA, "resolution": "1000, 500"})
    assert result.toml["extends"] == "sdxl-lora"
    assert result.config.data.resolution == "1024,512"
    assert result.comment("resolution") == "was 1000, 500; a multiple of 64 is needed"
    assert result.config.train.gradient_accumulation_steps == 1
    assert "text_encoder.train" not in result.left


def test_sd2_is_our_sd15_preset_with_another_family(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported({**SD15_LORA, "model_type": "STABLE_DIFFUSION_21"})
    assert (result.toml["extends"], result.config.model.family) == ("sd15-lora", "sd2")


def test_a_full_training_comes_out_as_a_folder(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported(SD15_FULL)
    assert "extends" not in result.toml
    config = result.config
    assert config.train.method.kind == "full"
    assert config.model.output_format == "diffusers"
    assert config.model.output == str(onetrainer.folder / "models/model")
    assert config.train.learning_rate == 3e-6
    assert result.left["output_model_format"].startswith("not yet: a full model comes out as")


def test_an_unknown_family_keeps_the_rest_and_is_refused_by_commands(
    onetrainer: OneTrainer,
) -> None:
    result = onetrainer.imported(FLUX_LORA)
    config = result.config
    assert (config.model.family, config.model.base) == ("flux_dev_1", FLUX_LORA["base_model_name"])
    assert (config.data.resolution, config.train.batch_size) == ("768", 4)
    assert config.model.output_format == "diffusers_lora"
    assert config.train.train_dtype == "bfloat16"
    assert result.left["model_type"].startswith("not yet: this version trains sd15, sd2, sdxl")
    assert result.left["transformer.weight_dtype"].startswith("not yet: quantised weights")
    assert result.left["timestep_distribution"].startswith("not yet: timesteps are uniform")
    with pytest.raises(ConfigError, match='model.family = "flux_dev_1"'):
        load_config(result.file, env={})


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        ({"training_method": "EMBEDDING", "output_model_format": "SAFETENSORS"}, "output_format"),
        ({"training_method": "FINE_TUNE_VAE"}, "parts.denoiser.train"),
        ({"unet": {"train": False}}, "parts.denoiser.train"),
        ({"model_type": "STABLE_DIFFUSION_15_INPAINTING"}, "model.family"),
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
    train = result.config.train
    assert train.learning_rate == 0.0001
    assert result.comment("learning_rate") == "of unet; learning_rate was 0.0003"
    assert train.optimizer.betas == (0.85, 0.999)
    assert train.optimizer.weight_decay == 0.02
    assert not train.gradient_checkpointing
    assert result.config.data.resolution == "1024"
    assert result.config.model.output_format == "kohya_lora"
    assert result.comment("output_format").startswith("was LEGACY_LORA")
    assert result.left["text_encoder.learning_rate"].startswith("not yet")
    assert result.left["offset_noise_weight"].startswith("not yet: noise is plain")
    assert result.left["loss_weight_fn"].startswith("not yet")
    unknown = [key for key, why in result.left.items() if why.startswith("unknown")]
    assert unknown == []
    assert "noising_bias" not in result.left  # 0.5 meant nothing before version 4


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
