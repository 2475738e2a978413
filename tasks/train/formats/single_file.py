"""One safetensors file in the original layout, as A1111 and ComfyUI load models.

Stable Diffusion: UNet, VAE and text encoders. Transformers are published by themselves, and so
written: ComfyUI takes text encoders and VAE from files of their own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.families.loading import load_component
from tasks.families.sources import read_config
from tasks.train.formats.files import refuse_existing, write_safetensors
from tasks.train.formats.lora_names import DENOISER
from tasks.train.formats.metadata import hash_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.original_names import original_unet_name
from tasks.train.formats.original_parts import original_text_encoder, original_vae
from tasks.train.formats.original_transformers import LAYOUTS, original_transformer
from tasks.train.formats.tensors import refuse_adapters, torch_dtype, whole_weights

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]


def save(destination: Path, model: TrainedModel) -> Path:
    """Write the base model with the trained weights in it; ValueError when there is no layout."""
    refuse_adapters(model, "single_file")
    refuse_existing(destination)
    family, dtype = model.family, torch_dtype(model.dtype)
    if family.pipeline in LAYOUTS:
        state = _component(model, DENOISER, family.denoiser)
        tensors = original_transformer(LAYOUTS[family.pipeline], state)
    elif family.denoiser == "unet":
        tensors = _stable_diffusion(model)
    else:
        raise ValueError(f"no original layout is known for {family.pipeline}; use `diffusers`")
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    hashes = hash_metadata(tensors, model.metadata)
    return write_safetensors(destination, tensors, dict(model.metadata) | hashes)


def _stable_diffusion(model: TrainedModel) -> "dict[str, Tensor]":
    family = model.family
    parts = {family.denoiser: DENOISER, "vae": "vae"}
    parts |= {encoder.model: encoder.name for encoder in family.text_encoders}
    tensors = {}
    for component, prefixes in family.single_file_prefixes.items():
        convert = _CONVERT.get(component, original_text_encoder)
        state = _component(model, parts[component], component)
        config = read_config(model.source, component)
        for name, tensor in convert(state, config).items():
            tensors[prefixes[0] + name] = tensor
    return tensors


def _unet(state: "State", config: Mapping[str, Any]) -> "dict[str, Tensor]":
    return {original_unet_name(name, config): tensor for name, tensor in state.items()}


_CONVERT: "Mapping[str, Callable[[State, Mapping[str, Any]], dict[str, Tensor]]]" = {
    "unet": _unet,
    "vae": original_vae,
}


def _component(model: TrainedModel, part: str, component: str) -> "dict[str, Tensor]":
    """A component's state dict: trained, or as it is in the base model."""
    loaded = load_component(model.source, model.family, component, torch_dtype(model.dtype))
    state: dict[str, Tensor] = loaded.state_dict()
    return state | whole_weights(model, part)
