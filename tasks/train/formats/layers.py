"""Adapters layer by layer: the tensors of one layer under peft's names, and their strength.

A layer is {name of a tensor in it: tensor}: `lora_A.weight` (r, in) and `lora_B.weight` (out, r),
`lora_magnitude_vector` of DoRA, `hada_*` of LoHa, `lokr_*` of LoKr.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    Layer = dict[str, Tensor]
    Parts = dict[str, dict[str, Layer]]
    """Part to module to layer."""
    Alphas = dict[tuple[str, str], float]
    """(part, module) to alpha, where a file says it."""

LORA_A, LORA_B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
_TENSOR = re.compile(
    r"(?P<module>.+)\.(?P<tensor>lora_[AB]\.weight|lora_magnitude_vector|hada_\w+|lokr_\w+)"
    r"(?:(?<=lora_magnitude_vector)\.weight)?"
)


def split_layers(weights: "Mapping[str, Tensor]") -> "dict[str, Layer]":
    """Module to its layer; ValueError for a name that is no adapter's."""
    layers: dict[str, Layer] = {}
    for name, tensor in weights.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise ValueError(f"expected only the weights of an adapter, got {name!r}")
        layers.setdefault(match["module"], {})[match["tensor"]] = tensor
    return layers


def join_layers(layers: "Mapping[str, Layer]") -> "dict[str, Tensor]":
    """The inverse of `split_layers`."""
    return {
        f"{module}.{name}": tensor
        for module, layer in layers.items()
        for name, tensor in layer.items()
    }


def kind_of(layer: "Layer") -> str:
    """lora, loha or lokr."""
    if LORA_A in layer:
        return "lora"
    return "loha" if any(name.startswith("hada_") for name in layer) else "lokr"


def rank_of(layer: "Layer") -> int | None:
    """The rank; None when both factors of a LoKr are whole matrices, which have none."""
    if LORA_A in layer:
        return int(layer[LORA_A].shape[0])
    for name in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in layer:
            return int(layer[name].shape[0])
    return None


def scaled(layer: "Layer", factor: float) -> "Layer":
    """The layer with the strength of its change of the weights multiplied by `factor`."""
    if factor == 1:
        return layer
    names = (LORA_B, "hada_w1_a", "lokr_w1", "lokr_w1_a")
    chosen = next(name for name in names if name in layer)
    return {**layer, chosen: layer[chosen] * factor}
