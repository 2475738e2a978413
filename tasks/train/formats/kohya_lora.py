"""Adapters in kohya's layout: `lora_unet_<module>.lora_down.weight`, `lora_up`, `.alpha`.

LoHa and LoKr have LyCORIS' names of tensors, `hada_w1_a` or `lokr_w1`, behind the same modules.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Adapter, LoraMethod, Method
from tasks.train.formats.files import write_safetensors
from tasks.train.formats.fused import fuse, swap_halves
from tasks.train.formats.layers import LORA_A, LORA_B, MAGNITUDE, rank_of, scaled
from tasks.train.formats.lora_names import kohya_names
from tasks.train.formats.metadata import hash_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.tensors import adapter_layers, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.train.formats.layers import Layer

TENSOR_NAMES = {LORA_A: "lora_down.weight", LORA_B: "lora_up.weight", MAGNITUDE: "dora_scale"}
"""peft's names of a layer's tensors to kohya's; those of LoHa and LoKr are the same."""


def save(destination: Path, model: TrainedModel) -> Path:
    """Write the adapter as A1111, Forge, ComfyUI and diffusers load it."""
    dtype = torch_dtype(model.dtype)
    parts = adapter_layers(model)
    assert isinstance(model.method, Adapter)
    tensors = {
        f"{name}.{key}": tensor.to(dtype).contiguous()
        for name, layer, times in _named(model, parts)
        for key, tensor in _entries(layer, model.method, times)
    }
    hashes = hash_metadata(tensors, model.metadata)
    return write_safetensors(destination, tensors, dict(model.metadata) | hashes)


def _named(
    model: TrainedModel, parts: "Mapping[str, Mapping[str, Layer]]"
) -> "Iterator[tuple[str, Layer, int]]":
    """(name in the file, layer, of how many modules it is made)."""
    names = kohya_names(model.family, model.source, fused=can_be_fused(model.method))
    left = {(part, module) for part, layers in parts.items() for module in layers}
    for name, adapted in names.items():
        places = [(adapted.part, module) for module in adapted.modules]
        layers = [parts.get(part, {}).get(module) for part, module in places]
        if any(layers):
            left.difference_update(places)
            one = layers[0] if len(layers) == 1 else fuse(layers, adapted.sizes)
            assert one is not None
            yield name, swap_halves(one) if adapted.has_swapped_halves else one, len(layers)
    if left:
        part, module = min(left)
        raise ValueError(f"{part}: {module!r} has no name in kohya's layout; use diffusers_lora")


def can_be_fused(method: Method) -> bool:
    """Whether adapters of several modules are an adapter of the one that holds them all.

    Not those of LoHa and LoKr, and those of DoRA only where no module of them is left out.
    """
    return isinstance(method, LoraMethod) and not method.dora


def _entries(layer: "Layer", method: Adapter, times: int) -> "Iterator[tuple[str, Tensor]]":
    import torch

    if rank_of(layer) is None:
        # Readers ignore the alpha of a LoKr of two whole matrices.
        layer = scaled(layer, method.alpha / method.rank)
    for name, tensor in layer.items():
        yield TENSOR_NAMES.get(name, name), _as_column(tensor) if name == MAGNITUDE else tensor
    yield "alpha", torch.tensor(method.alpha * times)


def _as_column(magnitude: "Tensor") -> Any:
    """One scale per output: (out, 1), of convolutions (out, 1, 1, 1)."""
    if magnitude.ndim == 1:
        return magnitude[:, None]
    return magnitude.transpose(0, 1)
