"""Checks and casts shared by the output formats."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Adapter
from tasks.train.formats.layers import split_layers
from tasks.train.formats.model import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.train.formats.layers import Layer

FINITE_HINT = "train with bfloat16 or float32, or write with `model.output_dtype = 'float32'`"
_NEW_ROWS = re.compile(r".*\.new\.\d+")


def adapter_layers(model: TrainedModel) -> "dict[str, dict[str, Layer]]":
    """Part to module to layer, float32 on the CPU; ValueError when no adapter was trained."""
    if not isinstance(model.method, Adapter):
        raise ValueError(
            f"this output format is for adapters such as LoRA, but {model.method.kind!r} was "
            "trained; use `diffusers` or `single_file` for a whole model"
        )
    parts = {name: split_layers(finite(model, weights)) for name, weights in model.parts.items()}
    if not any(parts.values()):
        raise ValueError("expected the weights of an adapter, got nothing")
    return parts


def whole_weights(model: TrainedModel, part: str) -> "dict[str, Tensor]":
    """The state dict of a part that was trained itself; empty when it was not trained.

    Words of textual inversion live in a wrapper around the embedding table: they are left out.
    """
    weights = finite(model, model.parts.get(part, {}))
    is_wrapped = any(_NEW_ROWS.fullmatch(name) for name in weights)
    return {
        name.replace(".base.weight", ".weight") if is_wrapped else name: tensor
        for name, tensor in weights.items()
        if not _NEW_ROWS.fullmatch(name)
    }


def refuse_adapters(model: TrainedModel, output_format: str) -> None:
    """ValueError when an adapter was trained, which is no whole model."""
    if isinstance(model.method, Adapter):
        raise ValueError(
            f"output format {output_format!r} is a whole model, but a LoRA or another adapter was "
            "trained; use kohya_lora or diffusers_lora"
        )


def finite(model: TrainedModel, weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Weights as float32 on the CPU; ValueError when one does not survive the cast to the file."""
    return finite_tensors(weights, model.dtype)


def finite_tensors(weights: "Mapping[str, Tensor]", dtype_name: str) -> "dict[str, Tensor]":
    """The same for a data type by its name."""
    import torch

    dtype = torch_dtype(dtype_name)
    plain = {name: tensor.detach().float().cpu() for name, tensor in weights.items()}
    for name, tensor in plain.items():
        if not torch.isfinite(tensor.to(dtype)).all():
            raise ValueError(f"{name} has values that are no {dtype} numbers; {FINITE_HINT}")
    return plain


def torch_dtype(name: str) -> Any:
    """torch.dtype of `float32`, `bfloat16` or `float16`."""
    import torch

    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[name]
