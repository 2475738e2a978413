"""Text encoding with CLIP encoders, exactly as the stock diffusers pipelines do it.

`hidden` is (B, T, D) and `pooled` is (B, P), in the data type of the encoder.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CLIP_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""Every linear layer of the blocks."""


def encode_last(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """The normed last hidden state (SD 1.x, 2.x); `layer_skip` is clip skip: layers left out."""
    output = _run(model, tokenizer, prompts)
    if layer_skip == 0:
        return {"hidden": output.last_hidden_state}
    # CLIPTextModel lost its `text_model` wrapper in transformers 5.6.
    norm = getattr(model, "text_model", model).final_layer_norm
    return {"hidden": norm(output.hidden_states[-(layer_skip + 1)])}


def encode_penultimate(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """The raw hidden state before the last layer (SDXL, encoder 1)."""
    output = _run(model, tokenizer, prompts)
    return {"hidden": output.hidden_states[-(layer_skip + 2)]}


def encode_pooled(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """The pooled text alone (FLUX.1); `layer_skip` never touches it."""
    return {"pooled": _run(model, tokenizer, prompts).pooler_output}


def encode_penultimate_pooled(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """The raw hidden state before the last layer, and the projected pooled text (SDXL 2, SD 3).

    `layer_skip` never touches the pooled text.
    """
    output = _run(model, tokenizer, prompts)
    return {"hidden": output.hidden_states[-(layer_skip + 2)], "pooled": output.text_embeds}


def _run(model: Any, tokenizer: Any, prompts: Sequence[str]) -> Any:
    ids = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=min(tokenizer.model_max_length, model.config.max_position_embeddings),
        truncation=True,
        return_tensors="pt",
    )
    mask = ids.attention_mask if getattr(model.config, "use_attention_mask", False) else None
    return model(
        ids.input_ids.to(model.device),
        attention_mask=None if mask is None else mask.to(model.device),
        output_hidden_states=True,
    )
