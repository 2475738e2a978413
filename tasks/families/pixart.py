"""PixArt-Alpha and PixArt-Sigma: a masked T5, a transformer that also predicts its variance."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.t5 import T5_LORA_TARGETS, encode_masked

if TYPE_CHECKING:
    from torch import Tensor

LATENT_FACTOR = 8


def _encode_120(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    return encode_masked(model, tokenizer, prompts, 120)


def _encode_300(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    return encode_masked(model, tokenizer, prompts, 300)


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return dict(texts["text_encoder_1"])


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    prediction: Tensor = denoiser(
        noisy,
        encoder_hidden_states=cond["hidden"],
        encoder_attention_mask=cond["mask"],
        timestep=t,
        added_cond_kwargs=_image_size(denoiser, noisy),
        return_dict=False,
    )[0]
    # The other half of the channels is the learned variance, which is not trained.
    return prediction[:, : noisy.shape[1]]


def _image_size(denoiser: Any, noisy: "Tensor") -> "dict[str, Tensor | None]":
    """Height and width in pixels, and their ratio: what PixArt-Alpha at 1024 pixels is told."""
    import torch

    if not denoiser.use_additional_conditions:
        return {"resolution": None, "aspect_ratio": None}
    height, width = (LATENT_FACTOR * cells for cells in noisy.shape[-2:])
    both = torch.tensor([[height, width]], dtype=torch.float32, device=noisy.device)
    ratio = both[:, :1] / both[:, 1:]
    return {
        "resolution": both.repeat(len(noisy), 1),
        "aspect_ratio": ratio.repeat(len(noisy), 1),
    }


_T5 = TextEncoder(
    name="text_encoder_1",
    model="text_encoder",
    tokenizer="tokenizer",
    max_tokens=120,
    fields=("hidden", "mask"),
    encode=_encode_120,
    mask="mask",
    lora_targets=T5_LORA_TARGETS,
)


PIXART_ALPHA = Family(
    name="pixart_alpha",
    pipeline="PixArtAlphaPipeline",
    denoiser="transformer",
    objective="ddpm",
    text_encoders=(_T5,),
    lora_targets=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
    layers={
        "attn-only": (r"\.attn\d\.",),
        "attn-mlp": (r"\.attn\d\.", r"\.ff\."),
        "blocks": (r"^transformer_blocks\.",),
        "full": ("",),
    },
    blocks=("transformer_blocks",),
    size_multiple=16,
    latent_factor=LATENT_FACTOR,
    patch_cells=2,
    size_conditioned=False,
    architectures={"epsilon": "pixart-alpha"},
    base_model_versions={"epsilon": "pixart-alpha"},
    kohya_names=None,
    single_file_prefixes={},
    config_repo=None,
    # Prompts are trained as they are, in the size that is asked for.
    sampling={"use_resolution_binning": False, "clean_caption": False},
    condition=_condition,
    predict=_predict,
)

PIXART_SIGMA = dataclasses.replace(
    PIXART_ALPHA,
    name="pixart_sigma",
    pipeline="PixArtSigmaPipeline",
    text_encoders=(dataclasses.replace(_T5, max_tokens=300, encode=_encode_300),),
    architectures={"epsilon": "pixart-sigma"},
    base_model_versions={"epsilon": "pixart-sigma"},
)
