"""Whole files of OneTrainer's, of each kind: what comes out loads with all checks."""

from typing import Any

import pytest

from tasks.config.models import Config
from tests.tasks.onetrainer.onetrainer_files import (
    FLUX_LORA,
    SD15_LORA,
    SDXL_LORA,
    OneTrainer,
    concept,
)

STANDARD, VALIDATION, PRIOR = (
    concept(name=name, type=name.upper()) for name in ("standard", "validation", "prior_prediction")
)


@pytest.fixture
def photos(onetrainer: OneTrainer) -> OneTrainer:
    return onetrainer.photos()


def loaded(onetrainer: OneTrainer, said: dict[str, Any], *concepts: dict[str, Any]) -> Config:
    return onetrainer.imported(said, list(concepts or [STANDARD])).checked


def test_sd15_lora(photos: OneTrainer) -> None:
    config = loaded(photos, {**SD15_LORA, "optimizer": {"optimizer": "ADAMW_8BIT"}})
    assert (config.model.family, config.train.method.kind) == ("sd15", "lora")
    assert config.train.optimizer.kind == "adamw_8bit"


def test_sdxl_full_training_with_masks_and_averaged_weights(photos: OneTrainer) -> None:
    said = {
        **SDXL_LORA,
        "training_method": "FINE_TUNE",
        "output_model_format": "LEGACY_SAFETENSORS",
        "output_model_destination": "models/model.safetensors",
        "masked_training": True,
        "unmasked_weight": 0.2,
        "ema": "CPU",
        "train_dtype": "BFLOAT_16",
        "unet": {"weight_dtype": "BFLOAT_16"},
        "optimizer": {"optimizer": "ADAFACTOR", "stochastic_rounding": True},
    }
    config = loaded(photos, said)
    train = config.train
    assert (config.model.output_format, train.method.kind) == ("single_file", "full")
    assert (train.mask.enabled, train.mask.unmasked_weight) == (True, 0.2)
    assert (train.ema.kind, train.weight_dtype) == ("cpu", "bfloat16")
    assert config.concepts[0].image.mask_source == "file"


@pytest.mark.parametrize("num_words", [1, 2])
def test_embedding(photos: OneTrainer, num_words: int) -> None:
    said: dict[str, Any] = {
        **SD15_LORA,
        "training_method": "EMBEDDING",
        "output_model_format": "SAFETENSORS",
        "output_model_destination": "models/harbour.safetensors",
        "embedding": {
            "placeholder": "<harbour>",
            "token_count": 4,
            "initial_embedding_text": "sea",
        },
        "additional_embeddings": [{"placeholder": "<boat>"}] * (num_words - 1),
        "embedding_learning_rate": 0.002,
    }
    config = loaded(photos, said)
    words = config.train.embeddings
    assert [one.placeholder for one in words] == ["<harbour>", "<boat>"][:num_words]
    assert (words[0].num_vectors, words[0].initial_text) == (4, "sea")
    assert words[0].learning_rate == 0.002
    assert (config.model.output_format, config.train.method.kind) == ("embedding", "embedding")
    assert config.model.output.endswith("harbour.safetensors") is (num_words == 1)


def test_flux_lora(photos: OneTrainer) -> None:
    config = loaded(photos, FLUX_LORA)
    train = config.train
    assert (config.model.family, config.model.output_format) == ("flux_dev", "diffusers_lora")
    assert (train.timesteps.distribution, train.timesteps.dynamic_shift) == ("logit_normal", True)
    assert (train.train_dtype, train.base_weights) == ("bfloat16", "int8")
    assert not config.parts.text_encoder_1.train


def test_validation_and_a_prior_concept(photos: OneTrainer) -> None:
    said = {"validation": True, "validate_after": 2, "validate_after_unit": "HOUR"}
    config = loaded(photos, {**SD15_LORA, **said}, STANDARD, VALIDATION, PRIOR)
    types = [(one.type, one.enabled) for one in config.concepts]
    assert types == [("standard", True), ("validation", True), ("prior_prediction", True)]
    validation = config.train.validation
    assert (validation.every, validation.unit, validation.quantiles) == (120, "minute", 1)
