"""Z-Image: one stream of image and text tokens, on the text of a Qwen3 language model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.qwen import MAX_TOKENS, encode_penultimate

if TYPE_CHECKING:
    from torch import Tensor


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return dict(texts["text_encoder_1"])


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    import torch

    pairs = zip(cond["hidden"], cond["mask"].bool(), strict=True)
    predictions = denoiser(
        # A list of videos of one frame, (C, 1, h, w), and a list of real tokens, (T, D).
        list(noisy.unsqueeze(2)),
        (1000 - t) / 1000,
        [text[real] for text, real in pairs],
        return_dict=False,
    )[0]
    # It is told the share of the image and gives image minus noise: both the other way round.
    return -torch.stack(predictions).squeeze(2)


Z_IMAGE = Family(
    name="z_image",
    pipeline="ZImagePipeline",
    denoiser="transformer",
    objective="flow",
    text_encoders=(
        TextEncoder(
            name="text_encoder_1",
            model="text_encoder",
            tokenizer="tokenizer",
            max_tokens=MAX_TOKENS,
            fields=("hidden", "mask"),
            encode=encode_penultimate,
            mask="mask",
        ),
    ),
    lora_targets=("to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3"),
    layers={
        "attn-only": (r"\.attention\.",),
        "attn-mlp": (r"\.attention\.", r"\.feed_forward\."),
        "blocks": (r"^(layers|noise_refiner|context_refiner)\.",),
        "full": ("",),
    },
    blocks=("layers", "noise_refiner", "context_refiner"),
    size_multiple=16,
    latent_factor=8,
    patch_cells=2,
    size_conditioned=False,
    architectures={"flow": "z-image"},
    base_model_versions={"flow": "z-image"},
    kohya_names=None,
    single_file_prefixes={},
    config_repo=None,
    condition=_condition,
    predict=_predict,
)
