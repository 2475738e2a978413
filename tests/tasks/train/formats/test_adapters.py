"""Adapters of every kind, of the denoiser and of text encoders, in both layouts."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.config.methods import Adapter, LoraMethod
from tasks.families import FAMILIES
from tasks.families.adapters import merge_adapter
from tasks.families.output_formats import allowed_formats
from tasks.train.formats import OUTPUT_FORMATS
from tests.model_fixtures import TinyModels
from tests.tasks.train.formats.models import (
    ALPHA,
    DORA,
    LOHA,
    LOKR,
    LORA,
    RANK,
    adapt,
    component_of,
    load,
    predict,
    stock,
    trained,
)

LAYOUTS = [
    (name, layout)
    for name, family in FAMILIES.items()
    for layout in allowed_formats(family, "lora")
    # test_original_transformers.py has those of transformers: diffusers knows only one of them.
    if layout == "diffusers_lora" or family.denoiser == "unet"
]


def parts_of(name: str, encoders: bool = True) -> dict[str, tuple[str, ...]]:
    """Part to the suffixes of its adapted modules, for what stock diffusers can load."""
    family = FAMILIES[name]
    parts = {"denoiser": family.lora_targets}
    loadable = ("text_encoder", "text_encoder_2") if encoders else ()
    for one in family.text_encoders:
        if one.lora_targets and one.model in loadable and "q_proj" in one.lora_targets:
            parts[one.name] = one.lora_targets
    return parts


def load_lora(pipeline, path: Path) -> None:
    if hasattr(pipeline, "load_lora_weights"):
        pipeline.load_lora_weights(str(path))
        return
    # Stock PixArt has no loader: people put such files into its transformer with peft.
    weights = {key.removeprefix("transformer."): one for key, one in load_file(path).items()}
    assert not any("lora" not in key for key in weights)
    settings = LoraMethod(rank=RANK, alpha=RANK, dora=any("magnitude" in key for key in weights))
    merge_adapter(pipeline.transformer, settings, weights)


def adapt_all(pipeline, name: str, method: Adapter, encoders: bool = True):
    return {
        part: adapt(getattr(pipeline, component_of(name, part)), method, targets, seed)
        for seed, (part, targets) in enumerate(parts_of(name, encoders).items())
    }


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_a_lora_loads_into_the_stock_pipeline(
    tiny_models: TinyModels, tmp_path: Path, name: str, layout: str
) -> None:
    ours, theirs = stock(tiny_models[name], name), stock(tiny_models[name], name)
    before = predict(theirs, name)
    parts = adapt_all(ours, name, LORA)
    out = tmp_path / "out" / "lora.safetensors"
    path = OUTPUT_FORMATS[layout](out, trained(tiny_models[name], name, LORA, parts))
    load_lora(theirs, path)
    assert (predict(ours, name) - before).abs().max() > 0.01, "the adapter changes nothing"
    torch.testing.assert_close(predict(theirs, name), predict(ours, name), rtol=1e-4, atol=1e-5)
    assert [entry.name for entry in path.parent.iterdir()] == ["lora.safetensors"]


@pytest.mark.parametrize("name", FAMILIES)
def test_dora_loads_into_the_stock_pipeline(
    tiny_models: TinyModels, tmp_path: Path, name: str
) -> None:
    ours, theirs = stock(tiny_models[name], name), stock(tiny_models[name], name)
    parts = adapt_all(ours, name, DORA)
    path = OUTPUT_FORMATS["diffusers_lora"](
        tmp_path / "x.safetensors", trained(tiny_models[name], name, DORA, parts)
    )
    load_lora(theirs, path)
    torch.testing.assert_close(predict(theirs, name), predict(ours, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["kohya_lora", "diffusers_lora"])
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_lora_of_every_kind_of_layer(
    tiny_models: TinyModels, tmp_path: Path, name: str, layout: str
) -> None:
    ours, theirs = stock(tiny_models[name], name), stock(tiny_models[name], name)
    targets = ["to_q", "conv1", "conv2", "conv_shortcut", "time_emb_proj", "ff.net.2"]
    parts = {"denoiser": adapt(ours.unet, LORA, targets)}
    path = OUTPUT_FORMATS[layout](
        tmp_path / "x.safetensors", trained(tiny_models[name], name, LORA, parts)
    )
    load_lora(theirs, path)
    torch.testing.assert_close(predict(theirs, name), predict(ours, name), rtol=1e-4, atol=1e-5)


# --- kohya's layout, by its own rules: nothing that we installed reads all of it ---


def change_of_weights(layer: dict[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """What ComfyUI makes of the tensors of one module: the new weight. Its rule for alpha: it is
    divided by the rank, which is a dimension of a down matrix, and ignored without one."""

    def flat(name: str) -> torch.Tensor:
        return layer[name].flatten(1)

    alpha, shape = float(layer.get("alpha", 1)), weight.shape
    if "lora_up.weight" in layer:
        rank = layer["lora_down.weight"].shape[0]
        delta = flat("lora_up.weight") @ flat("lora_down.weight") * alpha / rank
    elif "hada_w1_a" in layer:
        first = layer["hada_w1_a"] @ layer["hada_w1_b"]
        second = layer["hada_w2_a"] @ layer["hada_w2_b"]
        delta = first * second * alpha / layer["hada_w1_b"].shape[0]
    else:
        scale = 1.0
        if "lokr_w2_b" in layer:
            scale = alpha / layer["lokr_w2_b"].shape[0]
            second = layer["lokr_w2_a"] @ layer["lokr_w2_b"]
        else:
            second = layer["lokr_w2"]
        first = layer["lokr_w1"]
        delta = torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second) * scale
    changed = weight + delta.reshape(shape)
    if "dora_scale" in layer:
        norm = changed.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
        changed = layer["dora_scale"] / norm * changed
    return changed


def modules_of(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        module, _, name = key.partition(".")
        modules.setdefault(module, {})[name] = tensor
    return modules


@pytest.mark.parametrize("method", [LORA, DORA, LOHA, LOKR], ids=lambda one: one.kind)
def test_kohya_files_hold_the_trained_change_of_every_weight(
    tiny_models: TinyModels, tmp_path: Path, method: Adapter
) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    folder = tiny_models["sd15"]
    unet, encoder = load(folder, "sd15", "unet"), load(folder, "sd15", "text_encoder")
    targets = ["to_q", "to_out.0", "proj_in", "ff.net.2", "conv1"]
    parts = {
        "denoiser": adapt(unet, method, targets),
        "text_encoder_1": adapt(encoder, method, ["q_proj", "fc1"]),
    }
    path = OUTPUT_FORMATS["kohya_lora"](
        tmp_path / "x.safetensors", trained(folder, "sd15", method, parts)
    )
    found = modules_of(path)
    seen = 0
    for prefix, module in (("lora_unet_", unet), ("lora_te_text_model_", encoder)):
        for name, layer in module.named_modules():
            if isinstance(layer, BaseTunerLayer):
                tensors = found.pop(prefix + name.removeprefix("text_model.").replace(".", "_"))
                before = layer.get_base_layer().weight.detach().clone()
                layer.merge()
                after = layer.get_base_layer().weight.detach()
                assert (after - before).abs().max() > 0.01
                rebuilt = change_of_weights(tensors, before)
                torch.testing.assert_close(rebuilt, after, rtol=1e-3, atol=1e-4)
                seen += 1
    assert seen > 20
    assert not found


def test_kohya_names_are_those_that_are_read_elsewhere(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    """peers.md, section 5: lora_unet_, lora_te1_; lora_down, lora_up and a scalar alpha."""
    ours = stock(tiny_models["sdxl"], "sdxl")
    parts = adapt_all(ours, "sdxl", DORA)
    path = OUTPUT_FORMATS["kohya_lora"](
        tmp_path / "x.safetensors",
        trained(tiny_models["sdxl"], "sdxl", DORA, parts, dtype="float16"),
    )
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert {key.split("_")[1] for key in tensors} == {"unet", "te1", "te2"}
    suffixes = {"lora_down.weight": 2, "lora_up.weight": 2, "alpha": 0, "dora_scale": 2}
    assert {key.partition(".")[2] for key in tensors} == set(suffixes)
    for key, tensor in tensors.items():
        module, _, suffix = key.partition(".")
        assert re.fullmatch(r"lora_(unet|te1|te2)_\w+", module)
        assert tensor.ndim == suffixes[suffix]
        up, down = tensors[f"{module}.lora_up.weight"], tensors[f"{module}.lora_down.weight"]
        assert up.shape[1] == down.shape[0] == RANK
        assert tensors[f"{module}.alpha"] == ALPHA
        assert tensors[f"{module}.dora_scale"].shape == (up.shape[0], 1)
    base = "transformer_blocks_1_attn1_to_out_0.lora_down.weight"
    assert f"lora_unet_input_blocks_3_1_{base}" in tensors
    assert "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.alpha" in tensors
    assert "lora_te2_text_model_encoder_layers_1_mlp_fc2.alpha" in tensors


def test_a_fused_file_of_unequal_ranks_is_refused() -> None:
    from tasks.train.formats.fused import fuse
    from tasks.train.formats.layers import LORA_A, LORA_B

    layers = [{LORA_A: torch.ones(rank, 8), LORA_B: torch.ones(8, rank)} for rank in (2, 4)]
    with pytest.raises(ValueError, match=r"ranks \[2, 4\]"):
        fuse(layers, [8, 8])


def test_values_that_do_not_fit_the_dtype(tiny_models: TinyModels, tmp_path: Path) -> None:
    weights = {
        "mid_block.attentions.0.to_q.lora_A.weight": torch.full((4, 4), 1e5),
        "mid_block.attentions.0.to_q.lora_B.weight": torch.zeros(4, 4),
    }
    model = trained(tiny_models["sd15"], "sd15", LORA, {"denoiser": weights}, dtype="float16")
    with pytest.raises(ValueError, match=r"to_q.lora_A.weight.*float16.*float32"):
        OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", model)


def test_weights_that_are_no_adapters(tiny_models: TinyModels, tmp_path: Path) -> None:
    odd = {"denoiser": {"conv_in.bias": torch.zeros(4)}}
    model = trained(tiny_models["sd15"], "sd15", LORA, odd)
    with pytest.raises(ValueError, match="expected only the weights of an adapter"):
        OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", model)
    with pytest.raises(ValueError, match="got nothing"):
        empty = trained(tiny_models["sd15"], "sd15", LORA, {})
        OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", empty)
    with pytest.raises(ValueError, match="no name in kohya's layout"):
        other = {"denoiser": {"mine.lora_A.weight": torch.zeros(4, 4)}}
        model = trained(tiny_models["sd15"], "sd15", LORA, other)
        OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", model)
