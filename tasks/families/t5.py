"""Text encoding with T5 encoders, exactly as the stock diffusers pipelines do it.

`hidden` is (B, T, D), in the data type of the encoder. No pipeline skips layers of T5, so the
families' `encode` functions take no notice of `layer_skip`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

T5_LORA_TARGETS = ("q", "k", "v", "o", "wi_0", "wi_1", "wo")
"""Every linear layer of the blocks of a T5 with gated activations."""


def encode_padded(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_tokens: int
) -> "dict[str, Tensor]":
    """Padding is read like text, by T5 and by the denoiser (SD 3, FLUX.1)."""
    ids = _tokens(tokenizer, prompts, max_tokens).input_ids
    return {"hidden": model(ids.to(model.device))[0]}


def encode_masked(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_tokens: int
) -> "dict[str, Tensor]":
    """Padding is masked: `mask` (B, T) is 1 for real tokens (PixArt, which reads lower case)."""
    tokens = _tokens(tokenizer, [prompt.lower().strip() for prompt in prompts], max_tokens)
    mask = tokens.attention_mask.to(model.device)
    return {
        "hidden": model(tokens.input_ids.to(model.device), attention_mask=mask)[0],
        "mask": mask,
    }


def _tokens(tokenizer: Any, prompts: Sequence[str], max_tokens: int) -> Any:
    return tokenizer(
        list(prompts),
        padding="max_length",
        max_length=max_tokens,
        truncation=True,
        return_tensors="pt",
    )
