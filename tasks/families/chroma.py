"""Chroma: FLUX.1 without pooled text and guidance, whose one encoder (T5) is masked."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.flux import FLUX_DEV, image_positions
from tasks.families.packing import needed, pack, unpack

if TYPE_CHECKING:
    from torch import Tensor

MAX_TOKENS = 512


def _encode(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """`hidden` (B, 512, D), and `mask` (B, 512): real tokens and one of padding, as trained.

    The pipeline skips no layers, so `layer_skip` changes nothing.
    """
    import torch

    inputs = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )
    real = inputs.attention_mask.to(model.device)
    hidden = model(inputs.input_ids.to(model.device), attention_mask=real)[0]
    position = torch.arange(MAX_TOKENS, device=real.device)
    return {"hidden": hidden, "mask": position <= real.sum(dim=1, keepdim=True)}


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return dict(texts["text_encoder_1"])


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    hidden, mask = cond["hidden"], needed(cond["mask"])
    if mask is not None and denoiser.gradient_checkpointing:
        return _one_by_one(denoiser, noisy, t, hidden, mask)
    return _tokens(denoiser, noisy, t, hidden, mask)


def _one_by_one(
    denoiser: Any, noisy: "Tensor", t: "Tensor", hidden: "Tensor", mask: "Tensor"
) -> "Tensor":
    """The same without a mask: diffusers 0.42 loses it when single blocks are checkpointed."""
    import torch

    rows = zip(noisy, t, hidden, mask, strict=True)
    return torch.cat(
        [
            _tokens(denoiser, row[None], time[None], text[None, real], None)
            for row, time, text, real in rows
        ]
    )


def _tokens(
    denoiser: Any, noisy: "Tensor", t: "Tensor", hidden: "Tensor", mask: "Tensor | None"
) -> "Tensor":
    import torch

    height, width = noisy.shape[-2:]
    image = pack(noisy)
    if mask is not None:
        # Booleans: the stock pipeline's numbers are added to attention scores and mask nothing
        # (diffusers issue 12116). The model was trained with padding masked.
        mask = torch.cat([mask, mask.new_ones(image.shape[:2])], dim=1)
    tokens = denoiser(
        hidden_states=image,
        timestep=t / 1000,
        encoder_hidden_states=hidden,
        txt_ids=hidden.new_zeros(hidden.shape[1], 3),
        img_ids=image_positions(height // 2, width // 2, noisy.device),
        attention_mask=mask,
        return_dict=False,
    )[0]
    return unpack(tokens, height, width)


CHROMA = Family(
    name="chroma",
    pipeline="ChromaPipeline",
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
    lora_targets=FLUX_DEV.lora_targets,
    layers=FLUX_DEV.layers,
    blocks=("transformer_blocks", "single_transformer_blocks"),
    size_multiple=16,
    latent_factor=8,
    patch_cells=2,
    size_conditioned=False,
    architectures={"flow": "chroma"},
    base_model_versions={"flow": "chroma"},
    kohya_names=None,
    single_file_prefixes={},
    config_repo=None,
    condition=_condition,
    predict=_predict,
)
