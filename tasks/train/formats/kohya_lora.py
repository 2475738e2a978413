"""LoRA in kohya's layout: `lora_unet_<module>.lora_down.weight`, `lora_up`, `.alpha`."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.families.sources import read_config
from tasks.train.formats.files import write_safetensors
from tasks.train.formats.metadata import hash_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.original_names import original_unet_name
from tasks.train.formats.tensors import adapter_of

if TYPE_CHECKING:
    from torch import Tensor


def save(destination: Path, model: TrainedModel) -> Path:
    """Write the adapter as A1111, Forge, ComfyUI and diffusers load it."""
    import torch
    from diffusers.utils import convert_state_dict_to_kohya

    adapter = adapter_of(model)
    named = {
        f"unet.{name}": tensor.to(adapter.dtype)
        for name, tensor in _renamed(model, adapter.weights).items()
    }
    tensors: dict[str, Tensor] = convert_state_dict_to_kohya(named)
    # The converter writes alpha = rank, whatever the alpha was.
    alpha = torch.tensor(adapter.alpha, dtype=adapter.dtype)
    for key in [key for key in tensors if key.endswith(".alpha")]:
        tensors[key] = alpha.clone()
    return write_safetensors(
        destination, tensors, dict(model.metadata) | hash_metadata(tensors, model.metadata)
    )


def _renamed(model: TrainedModel, weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    if model.family.kohya_names == "diffusers":
        return weights
    config = read_config(model.source, model.family.denoiser)
    return {original_unet_name(name, config): tensor for name, tensor in weights.items()}
