"""Checks and casts shared by the output formats."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.train.formats.model import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor

FINITE_HINT = "train with bfloat16 or float32, or write with `model.output_dtype = 'float32'`"


@dataclass(frozen=True)
class Adapter:
    """A LoRA that is known to be complete."""

    weights: "dict[str, Tensor]"
    rank: int
    alpha: float
    dtype: Any
    """torch.dtype of the file."""


def adapter_of(model: TrainedModel) -> Adapter:
    """The LoRA of a trained model on the CPU, float32; ValueError when it is not one."""
    if model.rank is None or model.alpha is None:
        raise ValueError("this output format is for LoRA; use `diffusers` for a whole model")
    if not model.weights or not all(
        ".lora_A." in name or ".lora_B." in name for name in model.weights
    ):
        odd = next((name for name in model.weights if ".lora_" not in name), "nothing")
        raise ValueError(f"expected only lora_A and lora_B weights, got {odd!r}")
    dtype = torch_dtype(model.dtype)
    return Adapter(finite(model, dtype), model.rank, model.alpha, dtype)


def finite(model: TrainedModel, dtype: Any) -> "dict[str, Tensor]":
    """The weights as float32 on the CPU; ValueError when one does not survive the cast."""
    import torch

    weights = {name: tensor.detach().float().cpu() for name, tensor in model.weights.items()}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor.to(dtype)).all():
            raise ValueError(f"{name} has values that are no {dtype} numbers; {FINITE_HINT}")
    return weights


def torch_dtype(name: str) -> Any:
    """torch.dtype of `float32`, `bfloat16` or `float16`."""
    import torch

    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[name]
