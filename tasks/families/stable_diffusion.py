"""Stable Diffusion 1.x and 2.x: one CLIP encoder, a UNet, epsilon or v by the checkpoint's word."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.clip import CLIP_LORA_TARGETS, encode_last

if TYPE_CHECKING:
    from torch import Tensor

ATTENTION_AND_MLP = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
)
"""Every linear layer of the transformer blocks: what kohya's tools adapt by default."""
UNET_LAYERS = {
    "attn-only": (r"\.attn\d\.",),
    "attn-mlp": (r"\.attentions\.",),
    "blocks": (r"^(down_blocks|mid_block|up_blocks)\.",),
    "full": ("",),
}
"""attn-mlp is whole transformers, with the layers into and out of them."""


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return {"hidden": texts["text_encoder_1"]["hidden"]}


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    # Shape (B, C, h, w).
    prediction: Tensor = denoiser(
        noisy, t, encoder_hidden_states=cond["hidden"], return_dict=False
    )[0]
    return prediction


SD15 = Family(
    name="sd15",
    pipeline="StableDiffusionPipeline",
    denoiser="unet",
    objective="ddpm",
    text_encoders=(
        TextEncoder(
            name="text_encoder_1",
            model="text_encoder",
            tokenizer="tokenizer",
            max_tokens=77,
            fields=("hidden",),
            encode=encode_last,
            lora_targets=CLIP_LORA_TARGETS,
        ),
    ),
    lora_targets=ATTENTION_AND_MLP,
    layers=UNET_LAYERS,
    blocks=("down_blocks", "up_blocks"),
    size_multiple=8,
    latent_factor=8,
    size_conditioned=False,
    architectures={"epsilon": "stable-diffusion-v1", "v_prediction": "stable-diffusion-v1"},
    base_model_versions={"epsilon": "sd_v1", "v_prediction": "sd_v1_v"},
    kohya_names="diffusers",
    single_file_prefixes={
        "unet": ("model.diffusion_model.",),
        "vae": ("first_stage_model.", "vae."),
        "text_encoder": ("cond_stage_model.",),
    },
    config_repo="stable-diffusion-v1-5/stable-diffusion-v1-5",
    condition=_condition,
    predict=_predict,
)

SD2 = dataclasses.replace(
    SD15,
    name="sd2",
    architectures={
        "epsilon": "stable-diffusion-v2-512",
        "v_prediction": "stable-diffusion-v2-768-v",
    },
    base_model_versions={"epsilon": "sd_v2", "v_prediction": "sd_v2_v"},
    config_repo=None,
)
"""Its epsilon and v checkpoints have equal keys: only a scheduler config tells them apart."""
