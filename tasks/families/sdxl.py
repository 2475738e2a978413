"""Stable Diffusion XL: two CLIP encoders, a UNet that is told original size, crop and target."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.clip import (
    CLIP_LORA_TARGETS,
    encode_penultimate,
    encode_penultimate_pooled,
)
from tasks.families.stable_diffusion import ATTENTION_AND_MLP, UNET_LAYERS

if TYPE_CHECKING:
    from torch import Tensor


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    """Sizes are (B, 6): original height, width, crop top, left, target height, width in pixels."""
    import torch

    if sizes is None or sizes.ndim != 2 or sizes.shape[1] != 6:
        got = None if sizes is None else tuple(sizes.shape)
        raise ValueError(
            f"sdxl wants `sizes` of shape (B, 6) (original height, width, crop top, left, "
            f"target height, width), got {got}"
        )
    first, second = texts["text_encoder_1"], texts["text_encoder_2"]
    return {
        # Shape (B, T, D1 + D2).
        "hidden": torch.cat([first["hidden"], second["hidden"]], dim=-1),
        "pooled": second["pooled"],
        "sizes": sizes,
    }


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    # Sizes stay float32: bfloat16 would round 1023 to 1024 before the embedding.
    added = {"text_embeds": cond["pooled"], "time_ids": cond["sizes"].float()}
    prediction: Tensor = denoiser(
        noisy,
        t,
        encoder_hidden_states=cond["hidden"],
        added_cond_kwargs=added,
        return_dict=False,
    )[0]
    return prediction


SDXL = Family(
    name="sdxl",
    pipeline="StableDiffusionXLPipeline",
    denoiser="unet",
    objective="ddpm",
    text_encoders=(
        TextEncoder(
            name="text_encoder_1",
            model="text_encoder",
            tokenizer="tokenizer",
            max_tokens=77,
            fields=("hidden",),
            encode=encode_penultimate,
            lora_targets=CLIP_LORA_TARGETS,
        ),
        TextEncoder(
            name="text_encoder_2",
            model="text_encoder_2",
            tokenizer="tokenizer_2",
            max_tokens=77,
            fields=("hidden", "pooled"),
            encode=encode_penultimate_pooled,
            lora_targets=CLIP_LORA_TARGETS,
        ),
    ),
    lora_targets=ATTENTION_AND_MLP,
    layers=UNET_LAYERS,
    blocks=("down_blocks", "up_blocks"),
    size_multiple=64,
    latent_factor=8,
    size_conditioned=True,
    architectures={
        "epsilon": "stable-diffusion-xl-v1-base",
        "v_prediction": "stable-diffusion-xl-v1-base",
    },
    base_model_versions={"epsilon": "sdxl_base_v1-0", "v_prediction": "sdxl_base_v1-0"},
    kohya_names="original",
    single_file_prefixes={
        "unet": ("model.diffusion_model.",),
        "vae": ("first_stage_model.", "vae."),
        "text_encoder": ("conditioner.embedders.0.",),
        "text_encoder_2": ("conditioner.embedders.1.",),
    },
    config_repo="stabilityai/stable-diffusion-xl-base-1.0",
    condition=_condition,
    predict=_predict,
)
