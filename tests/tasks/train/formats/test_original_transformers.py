"""Transformers in their makers' layout, against the converters of stock diffusers."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_chroma_transformer_checkpoint_to_diffusers,
    convert_flux_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import load_file

from tasks.families import FAMILIES
from tasks.train.formats import OUTPUT_FORMATS
from tasks.train.formats.layers import join_layers, split_layers
from tasks.train.formats.original_transformers import CHROMA, FLUX, SD3, original_transformer
from tests.model_fixtures import TinyModels
from tests.tasks.train.formats.models import FULL, LORA, adapt, load, stock, trained

CONVERTERS = {
    "flux_dev": (FLUX, convert_flux_transformer_checkpoint_to_diffusers),
    "flux_schnell": (FLUX, convert_flux_transformer_checkpoint_to_diffusers),
    "chroma": (CHROMA, convert_chroma_transformer_checkpoint_to_diffusers),
}
WIDTH = 3072
"""FLUX.1's true width, which the converters of diffusers have built in."""


@pytest.mark.parametrize("name", ["sd3", "sd35"])
def test_sd3_loads_from_a_single_file(tiny_models: TinyModels, tmp_path: Path, name: str) -> None:
    from diffusers import SD3Transformer2DModel

    folder = tiny_models[name]
    transformer = load(folder, name, "transformer")
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter += torch.randn_like(parameter)
    model = trained(folder, name, FULL, {"denoiser": transformer.state_dict()})
    path = OUTPUT_FORMATS["single_file"](tmp_path / "x.safetensors", model)
    loaded = SD3Transformer2DModel.from_single_file(
        str(path), config=str(folder), subfolder="transformer", local_files_only=True
    )
    found = loaded.state_dict()
    assert found.keys() == transformer.state_dict().keys()
    for key, value in transformer.state_dict().items():
        assert torch.equal(found[key], value), key


def true_width(shape: tuple[int, ...], width: int) -> tuple[int, ...]:
    """A shape of the tiny model with as many outputs as FLUX.1 has, and few inputs."""
    size, rest = divmod(shape[0], width)
    return shape if rest else (size * WIDTH, *[1] * (len(shape) - 1))


@pytest.mark.parametrize("name", CONVERTERS)
def test_flux_is_what_diffusers_converts_back(tiny_models: TinyModels, name: str) -> None:
    transformer = load(tiny_models[name], name, "transformer")
    state = {}
    for key, tensor in transformer.state_dict().items():
        shape = true_width(tuple(tensor.shape), transformer.inner_dim)
        if key.startswith("norm_out.linear.weight"):
            shape = (2 * tensor.shape[1], tensor.shape[1])
        state[key] = torch.randn(shape)
    layout, convert_back = CONVERTERS[name]
    original = original_transformer(layout, state)
    assert "double_blocks.0.img_attn.qkv.weight" in original
    assert original["single_blocks.0.linear1.weight"].shape[0] == 7 * WIDTH
    back = convert_back(dict(original))
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(back[key], value), key


def test_a_tensor_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match="'extra.weight'"):
        original_transformer(SD3, {"extra.weight": torch.ones(1)})


def test_a_kohya_lora_of_flux_is_what_diffusers_splits(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    """One fused file, read by the converter of stock diffusers; only q of the context is left."""
    folder = tiny_models["flux_dev"]
    transformer = load(folder, "flux_dev", "transformer")
    weights = adapt(transformer, LORA, [*FAMILIES["flux_dev"].lora_targets, "norm1.linear"])
    weights = {
        key: tensor
        for key, tensor in weights.items()
        if "add_k_proj" not in key and "single_transformer_blocks" not in key
    }
    model = trained(folder, "flux_dev", LORA, {"denoiser": weights})
    path = OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", model)
    pipeline = stock(folder, "flux_dev")
    found = pipeline.lora_state_dict(load_file(path))
    changes = {
        module: layer["lora_B.weight"] @ layer["lora_A.weight"]
        for module, layer in split_layers(found).items()
    }
    for module, layer in split_layers(weights).items():
        wanted = layer["lora_B.weight"] @ layer["lora_A.weight"] * LORA.alpha / LORA.rank
        torch.testing.assert_close(changes.pop(f"transformer.{module}"), wanted)
    # What was not trained is there and changes nothing.
    assert all("add_k_proj" in module and not one.any() for module, one in changes.items())
    assert changes


def test_a_kohya_lora_of_the_modulation_has_its_halves_in_the_other_order(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    folder = tiny_models["sd3"]
    weights = adapt(load(folder, "sd3", "transformer"), LORA, ["norm_out.linear"])
    model = trained(folder, "sd3", LORA, {"denoiser": weights})
    path = OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", model)
    up = load_file(path)["lora_unet_final_layer_adaLN_modulation_1.lora_up.weight"]
    scale, shift = weights["norm_out.linear.lora_B.weight"].chunk(2)
    assert torch.equal(up, torch.cat([shift, scale]))


def test_a_kohya_lora_of_sd3_makes_the_same_model(tiny_models: TinyModels, tmp_path: Path) -> None:
    """Added to the original weights by kohya's rule, and read back by stock diffusers."""
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    from tasks.families.adapters import merge_adapter

    folder = tiny_models["sd3"]
    base = load(folder, "sd3", "transformer")
    original = original_transformer(
        SD3, {key: one.clone() for key, one in base.state_dict().items()}
    )
    weights = adapt(base, LORA, [*FAMILIES["sd3"].lora_targets, "norm1_context.linear", "proj_out"])
    model = trained(folder, "sd3", LORA, {"denoiser": weights})
    path = OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", model)
    tensors, names = load_file(path), {key.replace(".", "_"): key for key in original}
    for key in [key for key in tensors if key.endswith(".alpha")]:
        module = key.removesuffix(".alpha")
        up, down = tensors[f"{module}.lora_up.weight"], tensors[f"{module}.lora_down.weight"]
        weight = names[f"{module.removeprefix('lora_unet_')}_weight"]
        original[weight] = original[weight] + up @ down * tensors[key] / down.shape[0]
    merged = load(folder, "sd3", "transformer")
    merge_adapter(merged, LORA, weights)
    back = convert_sd3_transformer_checkpoint_to_diffusers(original)
    for key, value in merged.state_dict().items():
        torch.testing.assert_close(back[key], value, rtol=1e-4, atol=1e-5)
    assert join_layers(split_layers(weights)).keys() == weights.keys()
