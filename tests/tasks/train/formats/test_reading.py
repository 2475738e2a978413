"""Adapter files read back: what training goes on from is what was written, or acts alike."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.config.methods import Adapter, LoraMethod
from tasks.families import FAMILIES
from tasks.families.adapters import merge_adapter
from tasks.families.output_formats import allowed_formats
from tasks.train.formats import OUTPUT_FORMATS
from tasks.train.formats.diffusers_reading import peft_name
from tasks.train.formats.reading import read_lora, with_alpha
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
    source_of,
    trained,
)

METHODS = {"lora": LORA, "dora": DORA, "loha": LOHA, "lokr": LOKR}
CASES = [
    (name, method, layout)
    for name in FAMILIES
    for method in METHODS
    for layout in allowed_formats(FAMILIES[name], METHODS[method].kind)
]


def adapted(folder: Path, name: str, method: Adapter) -> dict[str, dict[str, torch.Tensor]]:
    """Random adapters of every part that can have one."""
    family = FAMILIES[name]
    targets = {"denoiser": family.lora_targets}
    targets |= {one.name: one.lora_targets for one in family.text_encoders if one.lora_targets}
    return {
        part: adapt(load(folder, name, component_of(name, part)), method, suffixes)
        for part, suffixes in targets.items()
    }


@pytest.mark.parametrize(("name", "method", "layout"), CASES)
def test_what_was_written_is_read(
    tiny_models: TinyModels, tmp_path: Path, name: str, method: str, layout: str
) -> None:
    settings, folder = METHODS[method], tiny_models[name]
    parts = adapted(folder, name, settings)
    path = OUTPUT_FORMATS[layout](
        tmp_path / "x.safetensors", trained(folder, name, settings, parts)
    )
    read = read_lora(path, FAMILIES[name], source_of(folder, name))
    assert (read.method.kind, read.method.rank) == (settings.kind, RANK)
    assert getattr(read.method, "dora", False) == (method == "dora")
    # diffusers' layout has alpha multiplied into its weights.
    assert read.method.alpha == (ALPHA if layout == "kohya_lora" else RANK)
    back = with_alpha(read, RANK, ALPHA)
    assert back.keys() == parts.keys()
    for part, weights in parts.items():
        assert back[part].keys() == weights.keys()
        for key, tensor in weights.items():
            torch.testing.assert_close(back[part][key], tensor, rtol=1e-5, atol=1e-6)


def weights_with(folder: Path, path: Path) -> dict[str, torch.Tensor]:
    """The UNet's weights with the adapter of a file merged into them."""
    unet = load(folder, "sd15", "unet")
    read = read_lora(path, FAMILIES["sd15"], source_of(folder, "sd15"))
    merge_adapter(unet, read.method, read.parts["denoiser"])
    return unet.state_dict()


def test_layers_with_alphas_of_their_own(tiny_models: TinyModels, tmp_path: Path) -> None:
    """The most common alpha is the method's, others are multiplied into their layers."""
    folder = tiny_models["sd15"]
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_"
    width = load(folder, "sd15", "unet").mid_block.resnets[0].conv1.weight.shape[0]
    tensors = {}
    for one, alpha in (("q", 2.0), ("k", 2.0), ("v", 8.0), ("out_0", None)):
        tensors[f"{layer}{one}.lora_down.weight"] = torch.randn(RANK, width)
        tensors[f"{layer}{one}.lora_up.weight"] = torch.randn(width, RANK)
        if alpha is not None:
            tensors[f"{layer}{one}.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_lora(tmp_path / "x.safetensors", FAMILIES["sd15"], source_of(folder, "sd15"))
    assert read.method == LoraMethod(rank=RANK, alpha=2.0)
    before = load(folder, "sd15", "unet").state_dict()
    after = weights_with(folder, tmp_path / "x.safetensors")
    for one, scale in (("q", 0.5), ("k", 0.5), ("v", 2.0), ("out_0", 1.0)):
        up, down = (tensors[f"{layer}{one}.lora_{way}.weight"] for way in ("up", "down"))
        module = one.replace("_", ".")
        key = f"mid_block.attentions.0.transformer_blocks.0.attn1.to_{module}.weight"
        torch.testing.assert_close(after[key], before[key] + scale * up @ down)


def test_a_file_of_diffusers_own_making(tiny_models: TinyModels, tmp_path: Path) -> None:
    """With peft's settings in the header, which know alpha."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers

    folder = tiny_models["sd15"]
    unet, encoder = load(folder, "sd15", "unet"), load(folder, "sd15", "text_encoder")
    weights = adapt(unet, LORA, ["to_q", "to_v"])
    text = adapt(encoder, LORA, ["q_proj"])
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=convert_state_dict_to_diffusers(weights),
        text_encoder_lora_layers=text,
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=encoder.peft_config["default"].to_dict(),
    )
    (path,) = tmp_path.glob("*.safetensors")
    read = read_lora(path, FAMILIES["sd15"], source_of(folder, "sd15"))
    assert read.method == LORA
    for part, wanted in {"denoiser": weights, "text_encoder_1": text}.items():
        assert read.parts[part].keys() == wanted.keys()
        assert all(torch.equal(read.parts[part][key], one) for key, one in wanted.items())


def test_a_backup(tiny_models: TinyModels, tmp_path: Path) -> None:
    import json

    weights = adapted(tiny_models["sd15"], "sd15", LORA)
    for part, state in weights.items():
        save_file(state, tmp_path / f"{part}.safetensors")
    (tmp_path / "backup.json").write_text(json.dumps({"method": LORA.model_dump()}))
    source = source_of(tiny_models["sd15"], "sd15")
    read = read_lora(tmp_path, FAMILIES["sd15"], source)
    assert read.method == LORA
    assert read.parts.keys() == weights.keys()
    (tmp_path / "backup.json").write_text(json.dumps({"method": {"kind": "full"}}))
    with pytest.raises(ValueError, match="'full', which trains no adapter"):
        read_lora(tmp_path, FAMILIES["sd15"], source)


@pytest.mark.parametrize(
    ("name", "present"),
    [
        ("unet.a.processor.to_q_lora.down.weight", "unet.a.to_q.lora_A.weight"),
        ("unet.a.processor.to_out_lora.up.weight", "unet.a.to_out.0.lora_B.weight"),
        ("text_encoder.a.fc1.lora_linear_layer.up.weight", "text_encoder.a.fc1.lora_B.weight"),
        ("unet.a.lora_A.weight", "unet.a.lora_A.weight"),
    ],
)
def test_former_names(name: str, present: str) -> None:
    assert peft_name(name) == present


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"model.diffusion_model.x": (1,)}, "no adapter in kohya's or diffusers' layout.*x"),
        ({"lora_unet_x.lora_down.weight": (4, 4)}, "none of this sd15 model, first 'lora_unet_x'"),
        ({"transformer.x.lora_A.weight": (4, 4)}, "no part of sd15.*unet, text_encoder"),
        ({"unet.x.lora_A.weight": (4, 4)}, "no layer 'x' in unet"),
        (
            {
                "lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3),
                "lora_unet_conv_in.dora_scale": (1, 4, 1, 1),
            },
            "DoRA along the inputs",
        ),
    ],
)
def test_what_is_none_for_this_model(
    tiny_models: TinyModels, tmp_path: Path, tensors: dict[str, tuple[int, ...]], told: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, path)
    with pytest.raises(ValueError, match=told):
        read_lora(path, FAMILIES["sd15"], source_of(tiny_models["sd15"], "sd15"))


def test_another_rank_is_refused(tiny_models: TinyModels, tmp_path: Path) -> None:
    folder = tiny_models["sd15"]
    parts = {"denoiser": adapt(load(folder, "sd15", "unet"), LORA, ["to_q"])}
    path = OUTPUT_FORMATS["kohya_lora"](
        tmp_path / "x.safetensors", trained(folder, "sd15", LORA, parts)
    )
    read = read_lora(path, FAMILIES["sd15"], source_of(folder, "sd15"))
    with pytest.raises(ValueError, match="rank 4, and train.method.rank is 8"):
        with_alpha(read, 8, ALPHA)
    assert len(load_file(path)) == len(parts["denoiser"]) // 2 * 3
