"""Tiny random-weight models of every family, built offline: folders and single files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from deployments.demo.build_model import (
    build_demo_model,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_unet,
    tiny_vae,
)
from tasks.train.formats.original_names import original_unet_name
from tests import tiny_flow, tiny_newer

Tensors = dict[str, torch.Tensor]


def build_tiny(family: str, folder: Path, seed: int = 0) -> Path:
    """A diffusers folder of that family with random weights; about a megabyte, in seconds."""
    builders: dict[str, Callable[[Path, int], Path]] = {
        "sd15": build_demo_model,
        "sd2": _build_sd2,
        "sdxl": _build_sdxl,
        "sd15_inpaint": _build_sd15_inpaint,
        "sdxl_inpaint": _build_sdxl_inpaint,
        **tiny_flow.BUILDERS,
        **tiny_newer.BUILDERS,
    }
    return builders[family](folder, seed)


def _build_sd2(folder: Path, seed: int) -> Path:
    return build_demo_model(folder, seed + 1000, prediction_type="v_prediction")


def _build_sd15_inpaint(folder: Path, seed: int) -> Path:
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionInpaintPipeline(
            vae=tiny_vae(),
            text_encoder=tiny_text_encoder(width=32),
            tokenizer=tiny_tokenizer(folder / "tokenizer"),
            unet=tiny_unet(cross_attention_dim=32, in_channels=9),
            scheduler=DDIMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                clip_sample=False, set_alpha_to_one=False,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def _build_sdxl_inpaint(folder: Path, seed: int) -> Path:
    return _build_sdxl(folder, seed, "StableDiffusionXLInpaintPipeline", in_channels=9)


def _build_sdxl(
    folder: Path, seed: int, pipeline_name: str = "StableDiffusionXLPipeline", in_channels: int = 4
) -> Path:
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Loading a single file tells the two encoders apart by width alone: keep them different.
        pipeline = getattr(diffusers, pipeline_name)(
            vae=tiny_vae(scaling_factor=0.13025),
            text_encoder=tiny_text_encoder(width=32),
            text_encoder_2=tiny_text_encoder(width=48, projection=48),
            tokenizer=tiny_tokenizer(folder / "tokenizer"),
            tokenizer_2=tiny_tokenizer(folder / "tokenizer_2", pad_token="!"),
            unet=tiny_unet(
                cross_attention_dim=80,
                in_channels=in_channels,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                use_linear_projection=True,
                transformer_layers_per_block=(1, 2),
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=48 + 6 * 8,
            ),
            scheduler=diffusers.EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def single_file(folder: Path, out: Path) -> Path:
    """Write a tiny sd15 or sdxl folder as one original-layout file; the suffix names the format."""
    import diffusers
    from safetensors.torch import save_file

    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    parts = {name: part.state_dict() for name, part in pipeline.components.items() if _model(part)}
    tensors = _prefixed("first_stage_model.", _original_vae(parts["vae"]))
    unet = {
        original_unet_name(key, pipeline.unet.config): value for key, value in parts["unet"].items()
    }
    tensors |= _prefixed("model.diffusion_model.", unet)
    if "text_encoder_2" in parts:
        tensors |= _prefixed("conditioner.embedders.0.transformer.", _clip(parts["text_encoder"]))
        tensors |= _prefixed("conditioner.embedders.1.model.", _open_clip(parts["text_encoder_2"]))
    else:
        tensors |= _prefixed("cond_stage_model.transformer.", _clip(parts["text_encoder"]))
    if out.suffix == ".ckpt":
        torch.save({"state_dict": tensors, "global_step": 7}, out)
    else:
        save_file(tensors, out)
    return out


def _model(part: object) -> bool:
    return isinstance(part, torch.nn.Module)


def _prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {prefix + key: value.contiguous() for key, value in tensors.items()}


def _clip(state: Mapping[str, Any]) -> Tensors:
    # Since transformers 5.6 the state dict of CLIPTextModel has lost this prefix.
    return {f"text_model.{key.removeprefix('text_model.')}": value for key, value in state.items()}


def _open_clip(state: Mapping[str, torch.Tensor]) -> Tensors:
    names = {
        "text_model.embeddings.token_embedding": "token_embedding",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm": "ln_final",
        "text_model.encoder.layers": "transformer.resblocks",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        ".fc1.": ".c_fc.",
        ".fc2.": ".c_proj.",
        ".self_attn.": ".attn.",
    }
    out: Tensors = {"text_projection": state["text_projection.weight"].T}
    for key, value in state.items():
        if key == "text_projection.weight" or ".k_proj." in key or ".v_proj." in key:
            continue
        tensor = value
        if ".q_proj." in key:
            joined = [state[key.replace(".q_proj.", f".{x}_proj.")] for x in "qkv"]
            tensor = torch.cat(joined)
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        out[key.replace(".q_proj.", ".in_proj_")] = tensor
    return out


def _original_vae(state: Mapping[str, torch.Tensor]) -> Tensors:
    levels = 4
    names = {
        ".mid_block.resnets.0": ".mid.block_1",
        ".mid_block.resnets.1": ".mid.block_2",
        ".mid_block.attentions.0": ".mid.attn_1",
        "conv_norm_out": "norm_out",
        "conv_shortcut": "nin_shortcut",
        ".downsamplers.0": ".downsample",
        ".upsamplers.0": ".upsample",
        ".resnets.": ".block.",
        "group_norm": "norm",
        "to_out.0": "proj_out",
        **{f"to_{x}.": f"{x}." for x in "qkv"},
        **{f"up_blocks.{i}.": f"up.{levels - 1 - i}." for i in range(levels)},
        **{f"down_blocks.{i}.": f"down.{i}." for i in range(levels)},
    }
    out: Tensors = {}
    for key, value in state.items():
        # The original keeps attention projections as 1x1 convolutions.
        is_projection = ".attentions.0.to_" in key and key.endswith(".weight")
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        out[key] = value[:, :, None, None] if is_projection else value
    return out
