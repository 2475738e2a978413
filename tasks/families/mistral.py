"""Text encoding with Mistral Small, exactly as the stock FLUX.2 pipeline does it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.families.qwen import side_by_side

if TYPE_CHECKING:
    from torch import Tensor

MAX_TOKENS = 512

# What FLUX.2 was trained with, line break included.
_SYSTEM = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing "
    "on object relationships, object\nattribution and actions without speculation."
)
_LAYERS = (10, 20, 30)


def encode_three_layers(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """`hidden` (B, 512, 3 * D): hidden states 10, 20 and 30 side by side, with their padding."""
    inputs = tokenizer.apply_chat_template(
        [_conversation(prompt) for prompt in prompts],
        tokenize=True,
        padding="max_length",
        truncation=True,
        max_length=MAX_TOKENS,
        return_dict=True,
        return_tensors="pt",
    )
    states = model(
        input_ids=inputs["input_ids"].to(model.device),
        attention_mask=inputs["attention_mask"].to(model.device),
        output_hidden_states=True,
        use_cache=False,
        logits_to_keep=1,  # logits are not read
    ).hidden_states
    return {"hidden": side_by_side(states, _LAYERS, layer_skip)}


def _conversation(prompt: str) -> list[dict[str, Any]]:
    # An image token in a prompt without images would be counted as one.
    said = {"system": _SYSTEM, "user": prompt.replace("[IMG]", "")}
    return [
        {"role": role, "content": [{"type": "text", "text": text}]} for role, text in said.items()
    ]
