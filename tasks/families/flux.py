"""FLUX.1: pooled CLIP text and T5, a transformer over packed latents. Dev is told its guidance."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.clip import CLIP_LORA_TARGETS, encode_pooled
from tasks.families.packing import pack, unpack
from tasks.families.sd3 import JOINT_ATTENTION, JOINT_MLP
from tasks.families.t5 import T5_LORA_TARGETS, encode_padded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TRAINED_GUIDANCE = 1.0
"""What a distilled model is told in training: the images are no product of guidance."""
NUM_SINGLE_BLOCKS = 38


def _encode_512(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    return encode_padded(model, tokenizer, prompts, 512)


def _encode_256(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    return encode_padded(model, tokenizer, prompts, 256)


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return {
        "hidden": texts["text_encoder_2"]["hidden"],
        "pooled": texts["text_encoder_1"]["pooled"],
    }


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    import torch

    height, width = noisy.shape[-2:]
    share = t / 1000
    guidance = torch.full_like(share, TRAINED_GUIDANCE, dtype=torch.float32)
    tokens = denoiser(
        hidden_states=pack(noisy),
        timestep=share,
        guidance=guidance if denoiser.config.guidance_embeds else None,
        pooled_projections=cond["pooled"],
        encoder_hidden_states=cond["hidden"],
        txt_ids=torch.zeros(cond["hidden"].shape[1], 3, device=noisy.device),
        img_ids=image_positions(height // 2, width // 2, noisy.device),
        return_dict=False,
    )[0]
    return unpack(tokens, height, width)


def image_positions(height: int, width: int, device: "torch.device") -> "Tensor":
    """(height * width, 3) float32: zero, row and column of each token of an image."""
    import torch

    axes = [torch.arange(size, device=device) for size in (1, height, width)]
    return torch.cartesian_prod(*axes).float()


_CLIP = TextEncoder(
    name="text_encoder_1",
    model="text_encoder",
    tokenizer="tokenizer",
    max_tokens=77,
    fields=("pooled",),
    encode=encode_pooled,
    lora_targets=CLIP_LORA_TARGETS,
)
_T5 = TextEncoder(
    name="text_encoder_2",
    model="text_encoder_2",
    tokenizer="tokenizer_2",
    max_tokens=512,
    fields=("hidden",),
    encode=_encode_512,
    lora_targets=T5_LORA_TARGETS,
)

FLUX_DEV = Family(
    name="flux_dev",
    pipeline="FluxPipeline",
    denoiser="transformer",
    objective="flow",
    text_encoders=(_CLIP, _T5),
    lora_targets=(
        *(*JOINT_ATTENTION, *JOINT_MLP, "proj_mlp"),
        # With its number, since the layer behind the last block has the same name.
        *(f"{number}.proj_out" for number in range(NUM_SINGLE_BLOCKS)),
    ),
    layers={
        "attn-only": (r"\.attn\.",),
        "attn-mlp": (r"\.attn\.", r"\.ff(_context)?\.", r"\.\d+\.proj_(mlp|out)$"),
        "blocks": (r"^(single_)?transformer_blocks\.",),
        "full": ("",),
    },
    blocks=("transformer_blocks", "single_transformer_blocks"),
    size_multiple=64,
    latent_factor=8,
    patch_cells=2,
    size_conditioned=False,
    architectures={"flow": "flux-1-dev"},
    base_model_versions={"flow": "flux1"},
    kohya_names="original",
    single_file_prefixes={
        "transformer": (
            *("model.diffusion_model.", "double_blocks.", "single_blocks.", "img_in.", "txt_in."),
            *("time_in.", "vector_in.", "guidance_in.", "final_layer."),
        ),
    },
    config_repo="black-forest-labs/FLUX.1-dev",
    condition=_condition,
    predict=_predict,
)

FLUX_SCHNELL = dataclasses.replace(
    FLUX_DEV,
    name="flux_schnell",
    text_encoders=(_CLIP, dataclasses.replace(_T5, max_tokens=256, encode=_encode_256)),
    architectures={"flow": "flux-1-schnell"},
    config_repo="black-forest-labs/FLUX.1-schnell",
    sampling={"max_sequence_length": 256},
)
"""Distilled to few steps on texts of 256 tokens, and not told its guidance."""
