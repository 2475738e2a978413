from typing import Any

import pytest

from tasks.train.methods.layers import linear_layers, matching, with_suffix
from tests.tasks.onetrainer.onetrainer_files import (
    FLUX_LORA,
    SD15_FULL,
    SD15_LORA,
    OneTrainer,
    Result,
)


def imported(onetrainer: OneTrainer, **said: Any) -> Result:
    return onetrainer.imported({**SD15_LORA, **said})


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ({"lora_rank": 4}, {"kind": "lora", "rank": 4, "dora": False}),
        ({"lora_decompose": True}, {"kind": "lora", "dora": True}),
        ({"dropout_probability": 0.1}, {"kind": "lora", "dropout": 0.1}),
        ({"peft_type": "LOHA", "lora_rank": 4, "lora_alpha": 2.0}, {"kind": "loha", "alpha": 2.0}),
        (
            {"peft_type": "LOKR", "lokr_dim": 8, "lokr_decompose_factor": 4, "lora_rank": 64},
            {"kind": "lokr", "rank": 8, "factor": 4, "alpha": 1.0},
        ),
        ({"peft_type": "OFT_2"}, {"kind": "lora"}),
    ],
)
def test_kinds_of_adapters(
    onetrainer: OneTrainer, said: dict[str, Any], ours: dict[str, Any]
) -> None:
    onetrainer.photos()
    method = imported(onetrainer, **said).checked.train.method
    assert {name: getattr(method, name) for name in ours} == ours


def test_options_of_other_adapters_are_silent(onetrainer: OneTrainer) -> None:
    said = {"lokr_use_tucker": True, "oft_scaled": True}
    left = imported(onetrainer, **said).left
    assert not said.keys() & left.keys()
    assert "lokr_use_tucker" in imported(onetrainer, **said, peft_type="LOKR").left


def test_going_on_from_an_adapter(onetrainer: OneTrainer) -> None:
    onetrainer.write("models/older.safetensors", "")
    result = imported(onetrainer, lora_model_name="models/older.safetensors")
    assert result.toml["train"]["method"]["initial"] == "models/older.safetensors"
    left = imported(onetrainer, lora_model_name="models/older.ckpt").left
    assert left["lora_model_name"].startswith("different")


@pytest.mark.parametrize(
    ("said", "layers"),
    [
        ({"layer_filter_preset": "attn-mlp"}, ()),
        ({"layer_filter_preset": "attn-only"}, ("attn",)),
        ({"layer_filter_preset": "full"}, (".",)),
        (
            {"layer_filter": "attn2, ff.net", "layer_filter_preset": "custom"},
            ("attn2", r"ff\.net"),
        ),
        (
            {"layer_filter": "attn[12]", "layer_filter_preset": "custom", "layer_filter_regex": 1},
            ("attn[12]",),
        ),
    ],
)
def test_filters_of_layers(
    onetrainer: OneTrainer, said: dict[str, Any], layers: tuple[str, ...]
) -> None:
    result = imported(onetrainer, **said)
    assert result.config.train.method.layers == layers
    assert not [key for key in result.left if key.startswith("layer_filter")]


def test_a_filter_that_is_no_pattern_is_told(onetrainer: OneTrainer) -> None:
    said = {"layer_filter": "attn(", "layer_filter_preset": "custom", "layer_filter_regex": True}
    assert "no regular expression" in imported(onetrainer, **said).left["layer_filter_preset"]


def test_a_full_training_takes_all_layers_unless_told(onetrainer: OneTrainer) -> None:
    assert onetrainer.imported(SD15_FULL).config.train.method.layers == ()
    said = {**SD15_FULL, "layer_filter_preset": "attn-mlp"}
    assert onetrainer.imported(said).config.train.method.layers == ("attentions",)


def test_presets_of_layers_name_the_layers_that_they_named(onetrainer: OneTrainer) -> None:
    """On a small UNet and a small transformer, against OneTrainer's way: a text in the name."""
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    from tasks.families import FAMILIES

    unet = UNet2DConditionModel(
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=8,
    )
    names = linear_layers(unet)
    usual = with_suffix(names, FAMILIES["sd15"].lora_targets)
    assert usual == [name for name in names if "attentions" in name]  # attn-mlp
    everything = imported(onetrainer, layer_filter_preset="full").config.train.method.layers
    assert matching(names, everything, {}) == names
    flux = FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    names = linear_layers(flux)
    said = {**FLUX_LORA, "layer_filter_preset": "attn-mlp"}
    filters = onetrainer.imported(said).config.train.method.layers
    wanted = [name for name in names if "attn" in name or "ff.net" in name]
    assert matching(names, filters, {}) == wanted


@pytest.mark.parametrize(
    ("said", "dtype", "told"),
    [
        ({"lora_weight_dtype": "FLOAT_32"}, "float32", False),
        ({"lora_weight_dtype": "BFLOAT_16", "train_dtype": "BFLOAT_16"}, "bfloat16", False),
        ({"lora_weight_dtype": "BFLOAT_16", "train_dtype": "FLOAT_16"}, "float32", True),
    ],
)
def test_types_of_trained_weights(
    onetrainer: OneTrainer, said: dict[str, Any], dtype: str, told: bool
) -> None:
    result = imported(onetrainer, **said)
    assert result.config.train.weight_dtype == dtype
    assert ("lora_weight_dtype" in result.left) is told


def test_a_text_encoder_without_an_adapter_stays_as_it_is(onetrainer: OneTrainer) -> None:
    """Commands would refuse a file that trains it."""
    onetrainer.photos()
    encoder = {"train": True, "learning_rate": 1e-5}
    for model_type, trains in (("PIXART_SIGMA", True), ("SANA", False)):
        result = imported(onetrainer, model_type=model_type, text_encoder=encoder)
        assert result.checked.parts.text_encoder_1.train is trains
        assert ("text_encoder.train" in result.left) is not trains


def test_a_lora_of_sana_leaves_out_what_peft_cannot_adapt(onetrainer: OneTrainer) -> None:
    from diffusers import SanaTransformer2DModel
    from peft import inject_adapter_in_model

    from tasks.families.adapters import peft_config

    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_cross_attention_heads": 2}
    sizes |= {"cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 8}
    for preset in ("full", "blocks", "attn-mlp"):
        said = {"model_type": "SANA", "layer_filter_preset": preset, "lora_rank": 4}
        method: Any = imported(onetrainer, **said).config.train.method
        sana = SanaTransformer2DModel(in_channels=4, out_channels=4, num_layers=1, **sizes)
        layers = matching(linear_layers(sana), method.layers, {})
        assert any("conv_inverted" in name for name in layers)
        inject_adapter_in_model(peft_config(method, layers), sana)


def word(placeholder: str, **said: Any) -> dict[str, Any]:
    return {"placeholder": placeholder, "train": True, "uuid": "x", **said}


def test_words_beside_a_lora(onetrainer: OneTrainer) -> None:
    said = {"stop_training_after": 3, "stop_training_after_unit": "EPOCH"}
    words = [word("<a>", token_count=None, **said), word("<b>", initial_embedding_text="a boat")]
    result = imported(onetrainer, additional_embeddings=words, embedding_learning_rate=0.001)
    first, second = result.config.train.embeddings
    assert (first.placeholder, first.num_vectors, first.learning_rate) == ("<a>", None, 0.001)
    assert first.stop_after is not None
    assert (first.stop_after.n, first.stop_after.unit) == (3, "epoch")
    assert (second.initial_text, second.num_vectors) == ("a boat", 1)
    assert result.config.train.method.kind == "lora"
    assert result.left["bundle_additional_embeddings"].startswith("different")


def test_what_a_word_cannot_be_here(onetrainer: OneTrainer) -> None:
    words = [word("<a>", model_name="a.safetensors", is_output_embedding=True)]
    result = imported(onetrainer, additional_embeddings=words, preserve_embedding_norm=True)
    told = [one.left.why for one in result.imported.left if one.key == "additional_embeddings"]
    assert len(told) == 2
    assert "preserve_embedding_norm" in result.left
    rubbish = imported(onetrainer, additional_embeddings=["<a>"])
    assert rubbish.left["additional_embeddings"].startswith("unknown")
