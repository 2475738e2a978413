"""Stable Diffusion 3 and 3.5: two CLIP encoders and a T5, a transformer of joint blocks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.clip import CLIP_LORA_TARGETS, encode_penultimate_pooled
from tasks.families.t5 import T5_LORA_TARGETS, encode_padded

if TYPE_CHECKING:
    from torch import Tensor

T5_TOKENS = 256
JOINT_ATTENTION = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
)
"""The linear layers of attention in which image and text have projections of their own."""
JOINT_MLP = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")


def _encode_t5(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    return encode_padded(model, tokenizer, prompts, T5_TOKENS)


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    """`hidden` (B, 77 + 256, D): CLIP's tokens, widened with zeros, before those of T5."""
    import torch

    first, second, third = (texts[f"text_encoder_{number}"] for number in (1, 2, 3))
    clip = torch.cat([first["hidden"], second["hidden"]], dim=-1)
    missing = third["hidden"].shape[-1] - clip.shape[-1]
    clip = torch.nn.functional.pad(clip, (0, missing))
    return {
        "hidden": torch.cat([clip, third["hidden"]], dim=1),
        "pooled": torch.cat([first["pooled"], second["pooled"]], dim=-1),
    }


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    prediction: Tensor = denoiser(
        hidden_states=noisy,
        timestep=t,
        encoder_hidden_states=cond["hidden"],
        pooled_projections=cond["pooled"],
        return_dict=False,
    )[0]
    return prediction


def _clip(number: int, suffix: str) -> TextEncoder:
    return TextEncoder(
        name=f"text_encoder_{number}",
        model=f"text_encoder{suffix}",
        tokenizer=f"tokenizer{suffix}",
        max_tokens=77,
        fields=("hidden", "pooled"),
        encode=encode_penultimate_pooled,
        lora_targets=CLIP_LORA_TARGETS,
    )


SD3 = Family(
    name="sd3",
    pipeline="StableDiffusion3Pipeline",
    denoiser="transformer",
    objective="flow",
    text_encoders=(
        _clip(1, ""),
        _clip(2, "_2"),
        TextEncoder(
            name="text_encoder_3",
            model="text_encoder_3",
            tokenizer="tokenizer_3",
            max_tokens=T5_TOKENS,
            fields=("hidden",),
            encode=_encode_t5,
            lora_targets=T5_LORA_TARGETS,
        ),
    ),
    lora_targets=(*JOINT_ATTENTION, *JOINT_MLP),
    layers={
        "attn-only": (r"\.attn2?\.",),
        "attn-mlp": (r"\.attn2?\.", r"\.ff(_context)?\."),
        "blocks": (r"^transformer_blocks\.",),
        "full": ("",),
    },
    blocks=("transformer_blocks",),
    size_multiple=64,
    latent_factor=8,
    patch_cells=2,
    size_conditioned=False,
    architectures={"flow": "stable-diffusion-3-medium"},
    base_model_versions={"flow": "medium"},
    kohya_names="original",
    single_file_prefixes={
        "transformer": (
            *("model.diffusion_model.", "joint_blocks.", "x_embedder.", "t_embedder."),
            *("y_embedder.", "context_embedder.", "final_layer.", "pos_embed"),
        ),
    },
    config_repo="stabilityai/stable-diffusion-3-medium-diffusers",
    condition=_condition,
    predict=_predict,
)

SD35 = dataclasses.replace(
    SD3,
    name="sd35",
    architectures={"flow": "stable-diffusion-3-5-large"},
    base_model_versions={"flow": "5-large"},
    config_repo=None,
)
"""Medium and large differ in their configs only, so a single file needs a config folder."""
