"""Sana: linear attention on latents of an autoencoder that divides edges by 32, text by Gemma 2.

Prompts stand behind an instruction to a language model, as in the stock pipeline.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder

if TYPE_CHECKING:
    from torch import Tensor

MAX_TOKENS = 300


def _encode(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """`hidden` (B, 300, D) and `mask` (B, 300): the first token, and what the prompt makes.

    An empty prompt has no instruction: so the pipeline encodes what it guides away from.
    """
    import torch

    encoded = [_encode_one(model, tokenizer, prompt.lower().strip()) for prompt in prompts]
    hidden, masks = zip(*encoded, strict=True)
    return {"hidden": torch.cat(hidden), "mask": torch.cat(masks)}


def _encode_one(model: Any, tokenizer: Any, prompt: str) -> "tuple[Tensor, Tensor]":
    before = _instruction() if prompt else ""
    num_before = len(tokenizer.encode(before)) - 2 if before else 0
    tokens = tokenizer(
        [before + prompt],
        padding="max_length",
        padding_side="right",
        max_length=num_before + MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    mask = tokens.attention_mask.to(model.device)
    hidden = model(tokens.input_ids.to(model.device), attention_mask=mask)[0]
    kept = [0, *range(-MAX_TOKENS + 1, 0)]
    return hidden[:, kept], mask[:, kept]


def _instruction() -> str:
    """What stands before every prompt; the pipeline has it as the default of an argument."""
    from diffusers import SanaPipeline

    parameters = inspect.signature(SanaPipeline.__call__).parameters
    return "\n".join(parameters["complex_human_instruction"].default)


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return dict(texts["text_encoder_1"])


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    prediction: Tensor = denoiser(
        noisy,
        encoder_hidden_states=cond["hidden"],
        encoder_attention_mask=cond["mask"],
        timestep=t * denoiser.config.timestep_scale,
        return_dict=False,
    )[0]
    return prediction


def _encode_image(vae: Any, pixels: "Tensor") -> "Tensor":
    latent: Tensor = vae.encode(pixels).latent
    return latent


SANA = Family(
    name="sana",
    pipeline="SanaPipeline",
    denoiser="transformer",
    objective="flow",
    text_encoders=(
        TextEncoder(
            name="text_encoder_1",
            model="text_encoder",
            tokenizer="tokenizer",
            max_tokens=MAX_TOKENS,
            fields=("hidden", "mask"),
            encode=_encode,
            mask="mask",
        ),
    ),
    lora_targets=("to_q", "to_k", "to_v", "to_out.0", "conv_inverted", "conv_point"),
    layers={
        "attn-only": (r"\.attn\d\.",),
        "attn-mlp": (r"\.attn\d\.", r"\.ff\.conv_(inverted|point)$"),
        # All but the convolutions that have one filter per channel: adapters do not fit them.
        "blocks": (r"^transformer_blocks\.(?!.*\.conv_depth$)",),
        "full": (r"^(?!.*\.conv_depth$)",),
    },
    blocks=("transformer_blocks",),
    size_multiple=32,
    latent_factor=32,
    size_conditioned=False,
    architectures={"flow": "sana"},
    base_model_versions={"flow": "sana"},
    kohya_names=None,
    single_file_prefixes={},
    config_repo=None,
    sampling={"use_resolution_binning": False},
    condition=_condition,
    predict=_predict,
    encode_image=_encode_image,
)
