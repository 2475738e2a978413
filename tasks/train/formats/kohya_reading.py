"""Adapter files in kohya's and LyCORIS' layout: what they say about the layers of a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.families.base import Family
from tasks.families.sources import ModelSource
from tasks.train.formats.fused import swap_halves, unfuse
from tasks.train.formats.kohya_lora import TENSOR_NAMES
from tasks.train.formats.layers import LORA_A, MAGNITUDE, rank_of
from tasks.train.formats.lora_names import Adapted, kohya_names

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.train.formats.layers import Alphas, Layer, Parts

PREFIXES = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "lycoris_")
_PEFT_NAMES = {theirs: ours for ours, theirs in TENSOR_NAMES.items()}


def read_kohya(
    tensors: "Mapping[str, Tensor]", family: Family, source: ModelSource
) -> "tuple[Parts, Alphas]":
    """The layers of each part, and their alphas; ValueError when they are none of this model."""
    known = kohya_names(family, source) | kohya_names(family, source, fused=False)
    modules: dict[str, Layer] = {}
    for name, tensor in tensors.items():
        module, _, key = name.partition(".")
        modules.setdefault(module, {})[_PEFT_NAMES.get(key, key)] = tensor
    if strange := sorted(modules.keys() - known.keys()):
        raise ValueError(
            f"{len(strange)} of {len(modules)} modules are none of this {family.name} model, "
            f"first {strange[0]!r}: the file is for another family or base model"
        )
    parts: Parts = {}
    alphas: Alphas = {}
    for name, joined in modules.items():
        part, alpha = known[name].part, joined.pop("alpha", None)
        rank_there = rank_of(joined)
        for module, layer in _unpacked(name, joined, known[name]):
            parts.setdefault(part, {})[module] = layer
            rank = rank_of(layer)
            if alpha is not None and rank and rank_there:
                # Alpha and rank of a module that stands for several are theirs together.
                alphas[part, module] = float(alpha) * rank / rank_there
    return parts, alphas


def _unpacked(name: str, layer: "Layer", adapted: Adapted) -> "list[tuple[str, Layer]]":
    if MAGNITUDE in layer:
        layer[MAGNITUDE] = _as_magnitude(name, layer[MAGNITUDE], adapted.sizes[0])
    if adapted.has_swapped_halves and LORA_A in layer:
        layer = swap_halves(layer)
    if len(adapted.modules) == 1:
        return [(adapted.modules[0], layer)]
    if LORA_A not in layer or MAGNITUDE in layer:
        raise ValueError(f"{name!r} is LoHa, LoKr or DoRA of several modules at once")
    several = zip(adapted.modules, unfuse(layer, adapted.sizes), strict=True)
    return [(module, one) for module, one in several if one is not None]


def _as_magnitude(name: str, scales: "Tensor", size: int) -> "Tensor":
    """DoRA's magnitudes as peft has them: (out,), of convolutions (1, out, 1, 1)."""
    if scales.shape[0] != size:
        raise ValueError(f"{name!r}: DoRA along the inputs, and it is trained along the outputs")
    return scales.flatten() if scales.ndim <= 2 else scales.transpose(0, 1).contiguous()
