"""Text encoding with the Qwen language models, exactly as the stock diffusers pipelines do it.

`hidden` is (B, T, D) in the data type of the encoder, `mask` is (B, T): true for real tokens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MAX_TOKENS = 512

# What Qwen-Image was trained with; its first 34 tokens are dropped behind the encoder.
_DESCRIBE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_PREFIX_TOKENS = 34
_LONGEST_PROMPT = 1024
_KLEIN_LAYERS = (9, 18, 27)


def encode_described(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """The normed last hidden state behind Qwen-Image's template (Qwen2.5-VL)."""
    inputs = tokenizer(
        [_DESCRIBE.format(prompt) for prompt in prompts],
        padding=True,
        truncation=True,
        max_length=_LONGEST_PROMPT + _PREFIX_TOKENS,
        return_tensors="pt",
    )
    # One row of logits and not all: they are not read.
    states = _run(model, inputs, logits_to_keep=1)
    hidden, mask = _left_aligned(states[-(layer_skip + 1)], inputs.attention_mask, _PREFIX_TOKENS)
    return {"hidden": hidden[:, :MAX_TOKENS], "mask": mask[:, :MAX_TOKENS]}


def encode_penultimate(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """The raw hidden state before the last layer, of the prompt as a chat message (Z-Image)."""
    # Padded to the longest and not to 512 as in the pipeline: attention is causal and masked, so
    # real tokens do not see the padding.
    inputs = _chat(tokenizer, prompts, padding="longest", thinking=True)
    states = _run(model, inputs)
    hidden, mask = _left_aligned(states[-(layer_skip + 2)], inputs.attention_mask)
    return {"hidden": hidden, "mask": mask}


def encode_three_layers(
    model: Any, tokenizer: Any, prompts: Sequence[str], layer_skip: int = 0
) -> "dict[str, Tensor]":
    """Hidden states 9, 18 and 27 side by side, with their padding (FLUX.2 klein reads it)."""
    inputs = _chat(tokenizer, prompts, padding="max_length", thinking=False)
    states = _run(model, inputs, logits_to_keep=1)
    return {"hidden": side_by_side(states, _KLEIN_LAYERS, layer_skip)}


def side_by_side(states: "Sequence[Tensor]", layers: Sequence[int], skip: int) -> "Tensor":
    """Hidden states (B, T, D) of some layers as one (B, T, len(layers) * D), `skip` lower."""
    import torch

    return torch.cat([states[layer - skip] for layer in layers], dim=-1)


def _chat(tokenizer: Any, prompts: Sequence[str], padding: str, thinking: bool) -> Any:
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        for prompt in prompts
    ]
    return tokenizer(
        texts, padding=padding, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )


def _run(model: Any, inputs: Any, **settings: Any) -> "Sequence[Tensor]":
    states: Sequence[Tensor] = model(
        input_ids=inputs.input_ids.to(model.device),
        attention_mask=inputs.attention_mask.to(model.device),
        output_hidden_states=True,
        use_cache=False,
        **settings,
    ).hidden_states
    return states


def _left_aligned(hidden: "Tensor", mask: "Tensor", drop: int = 0) -> "tuple[Tensor, Tensor]":
    """Real tokens without the first `drop`, from the left, and zeros behind; and their mask."""
    from torch.nn.utils.rnn import pad_sequence

    real = mask.bool().to(hidden.device)
    rows = [row[which][drop:] for row, which in zip(hidden, real, strict=True)]
    kept = [row.new_ones(len(row), dtype=real.dtype) for row in rows]
    return pad_sequence(rows, batch_first=True), pad_sequence(kept, batch_first=True)
