"""VAE and text encoders of Stable Diffusion in the layout of single files (ldm, open_clip)."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_RESNET = {"conv_shortcut": "nin_shortcut"}
_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_VAE_INNER = re.compile(
    r"(?P<coder>encoder|decoder)\.(?P<side>down_blocks|up_blocks|mid_block)\.(?:(?P<level>\d+)\.)?"
    r"(?P<part>resnets|attentions|downsamplers|upsamplers)\.(?P<index>\d+)\."
    r"(?P<module>to_out\.0|\w+)\.(?P<parameter>\w+)"
)
_OPEN_CLIP_OUTSIDE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def original_vae(state: "Mapping[str, Tensor]", config: Mapping[str, Any]) -> "dict[str, Tensor]":
    """An AutoencoderKL's state dict under the original names."""
    levels = len(config["up_block_types"])
    found = {}
    for name, tensor in state.items():
        match = _VAE_INNER.fullmatch(name)
        if match is None:
            found[name.replace("conv_norm_out", "norm_out")] = tensor
            continue
        is_projection = match["part"] == "attentions" and match["module"] != "group_norm"
        # There the attention's projections are convolutions of one pixel.
        wide = is_projection and match["parameter"] == "weight"
        found[_vae_name(match, levels)] = tensor[:, :, None, None] if wide else tensor
    return found


def _vae_name(match: "re.Match[str]", levels: int) -> str:
    module, part, index = match["module"], match["part"], int(match["index"])
    if part == "attentions":
        inner = f"mid.attn_{index + 1}.{_ATTENTION[module]}"
    elif match["side"] == "mid_block":
        inner = f"mid.block_{index + 1}.{_RESNET.get(module, module)}"
    else:
        is_down = match["side"] == "down_blocks"
        # The decoder's levels count from its output there.
        level = int(match["level"]) if is_down else levels - 1 - int(match["level"])
        side = "down" if is_down else "up"
        blocks = {
            "resnets": f"block.{index}.{_RESNET.get(module, module)}",
            "downsamplers": f"downsample.{module}",
            "upsamplers": f"upsample.{module}",
        }
        inner = f"{side}.{level}.{blocks[part]}"
    return f"{match['coder']}.{inner}.{match['parameter']}"


def original_text_encoder(
    state: "Mapping[str, Tensor]", config: Mapping[str, Any]
) -> "dict[str, Tensor]":
    """A CLIP text model's state dict as it lies behind its prefix in a single file.

    OpenAI's CLIP keeps its names, in `transformer.`; OpenCLIP's, which is known by its plain GELU
    or its projection, has names of its own in `model.`.
    """
    bare = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    if "text_projection.weight" in bare or config.get("hidden_act") == "gelu":
        return {f"model.{name}": tensor for name, tensor in _open_clip(bare).items()}
    return {f"transformer.text_model.{name}": tensor for name, tensor in bare.items()}


def _open_clip(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    import torch

    found = {}
    for name, tensor in state.items():
        if name == "text_projection.weight":
            found["text_projection"] = tensor.T.contiguous()
        elif name in _OPEN_CLIP_OUTSIDE:
            found[_OPEN_CLIP_OUTSIDE[name]] = tensor
        elif name.startswith("encoder.layers."):
            number, _, rest = name.removeprefix("encoder.layers.").partition(".")
            module, _, parameter = rest.rpartition(".")
            block = f"transformer.resblocks.{number}"
            if module in _OPEN_CLIP_LAYER:
                found[f"{block}.{_OPEN_CLIP_LAYER[module]}.{parameter}"] = tensor
            elif module == "self_attn.q_proj":
                three = [state[name.replace("q_proj", f"{one}_proj")] for one in "qkv"]
                found[f"{block}.attn.in_proj_{parameter}"] = torch.cat(three)
    return found
