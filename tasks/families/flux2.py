"""FLUX.2: dev on Mistral Small, told its guidance, and klein on Qwen3, without guidance.

Its VAE's latents are patches of 2 x 2 cells, normalised by statistics that are weights of the VAE:
a latent here has 16 pixels per cell, and (B, 128, h, w) is what the transformer reads.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.families import mistral, qwen
from tasks.families.base import Family, TextEncoder
from tasks.families.flux import TRAINED_GUIDANCE
from tasks.families.packing import pack
from tasks.families.sd3 import JOINT_ATTENTION

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.families.sources import ModelSource


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return dict(texts["text_encoder_1"])


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    import torch

    height, width = noisy.shape[-2:]
    tokens = denoiser(
        hidden_states=noisy.flatten(2).transpose(1, 2),
        timestep=t / 1000,
        guidance=torch.full_like(t, TRAINED_GUIDANCE) if denoiser.config.guidance_embeds else None,
        encoder_hidden_states=cond["hidden"],
        txt_ids=_positions(1, 1, cond["hidden"].shape[1], noisy),
        img_ids=_positions(height, width, 1, noisy),
        return_dict=False,
    )[0]
    prediction: Tensor = tokens.transpose(1, 2).reshape(noisy.shape)
    return prediction


def _positions(height: int, width: int, length: int, like: "Tensor") -> "Tensor":
    """(height * width * length, 4): zero (time), row, column and number of each token."""
    import torch

    axes = [torch.arange(size, device=like.device) for size in (1, height, width, length)]
    return torch.cartesian_prod(*axes)


def _encode_image(vae: Any, pixels: "Tensor") -> "Tensor":
    mean = vae.encode(pixels).latent_dist.mean
    batch, channels, height, width = mean.shape
    tokens = pack(mean).transpose(1, 2)
    return tokens.reshape(batch, channels * 4, height // 2, width // 2)


def _latent_facts(source: "ModelSource") -> dict[str, Any]:
    """Mean and deviation per channel: running statistics of a batch norm among the weights."""
    from safetensors import safe_open

    from tasks.families.digests import weight_files
    from tasks.families.sources import read_config

    found: dict[str, Tensor] = {}
    for path in weight_files(source.folder / "vae").files:
        with safe_open(path, framework="pt") as file:
            names = {"bn.running_mean", "bn.running_var"} & set(file.keys())
            found |= {name: file.get_tensor(name).float() for name in names}
    if len(found) < 2:
        raise ValueError(f"{source.folder / 'vae'}: these weights have no bn.running_mean and _var")
    eps = read_config(source, "vae").get("batch_norm_eps", 1e-4)
    return {
        "latents_mean": found["bn.running_mean"].tolist(),
        "latents_std": (found["bn.running_var"] + eps).sqrt().tolist(),
    }


FLUX2 = Family(
    name="flux2",
    pipeline="Flux2Pipeline",
    denoiser="transformer",
    objective="flow",
    text_encoders=(
        TextEncoder(
            name="text_encoder_1",
            model="text_encoder",
            tokenizer="tokenizer",
            max_tokens=mistral.MAX_TOKENS,
            fields=("hidden",),
            encode=mistral.encode_three_layers,
        ),
    ),
    lora_targets=(*JOINT_ATTENTION, "linear_in", "linear_out", "to_qkv_mlp_proj", "to_out"),
    layers={
        "attn-only": (r"\.attn\.",),
        "attn-mlp": (r"\.attn\.", r"\.ff(_context)?\."),
        "blocks": (r"^(single_)?transformer_blocks\.",),
        "full": ("",),
    },
    blocks=("transformer_blocks", "single_transformer_blocks"),
    size_multiple=16,
    latent_factor=16,
    size_conditioned=False,
    architectures={"flow": "flux-2-dev"},
    base_model_versions={"flow": "flux2-dev"},
    kohya_names=None,
    single_file_prefixes={},
    config_repo=None,
    condition=_condition,
    predict=_predict,
    encode_image=_encode_image,
    latent_facts=_latent_facts,
)

FLUX2_KLEIN = dataclasses.replace(
    FLUX2,
    name="flux2_klein",
    pipeline="Flux2KleinPipeline",
    text_encoders=(
        dataclasses.replace(
            FLUX2.text_encoders[0],
            max_tokens=qwen.MAX_TOKENS,
            encode=qwen.encode_three_layers,
        ),
    ),
    architectures={"flow": "flux-2-klein"},
    base_model_versions={"flow": "flux2-klein"},
)
