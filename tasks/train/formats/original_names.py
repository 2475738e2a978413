"""Module names of diffusers' UNet in the original (ldm, sgm) layout.

That layout counts blocks through: a level of n layers takes n + 1 numbers, the last of which is
its down-sampler (input side) or, on the output side, one more layer with the up-sampler behind it.
"""

import re
from collections.abc import Mapping
from typing import Any

_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_INNER = re.compile(
    r"(?P<side>down_blocks|up_blocks|mid_block)\.(?:(?P<level>\d+)\.)?"
    r"(?P<part>resnets|attentions|downsamplers|upsamplers)\.(?P<index>\d+)\.(?P<rest>.+)"
)


def original_unet_name(name: str, config: Mapping[str, Any]) -> str:
    """The original name of a module or parameter of a UNet with this diffusers config."""
    for ours, theirs in _OUTSIDE.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    match = _INNER.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r}: no module of a UNet that has an original name")
    rest = match["rest"]
    if match["part"] == "resnets":
        module, _, parameter = rest.partition(".")
        rest = _RESNET[module] + (f".{parameter}" if parameter else "")
    elif match["part"] == "downsamplers":
        rest = re.sub(r"^conv\b", "op", rest)
    index, level = int(match["index"]), int(match["level"] or 0)
    if match["side"] == "mid_block":
        # Resnet, attention, resnet.
        return f"middle_block.{2 * index if match['part'] == 'resnets' else 1}.{rest}"
    return _block(match["side"], match["part"], level, index, config) + rest


def _block(side: str, part: str, level: int, index: int, config: Mapping[str, Any]) -> str:
    layers = int(config["layers_per_block"])
    first = level * (layers + 1)
    if part == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0."
    if part == "upsamplers":
        behind = 2 if "CrossAttn" in config["up_block_types"][level] else 1
        return f"output_blocks.{first + layers}.{behind}."
    position = 0 if part == "resnets" else 1
    if side == "down_blocks":
        return f"input_blocks.{1 + first + index}.{position}."
    return f"output_blocks.{first + index}.{position}."
