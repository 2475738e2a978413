"""LoRA in diffusers' own layout: `unet.<module>.lora_A.weight` and `lora_B`, `text_encoder.` ..."""

from pathlib import Path

from tasks.config.methods import Adapter
from tasks.train.formats.files import write_safetensors
from tasks.train.formats.layers import MAGNITUDE, kind_of, rank_of, scaled
from tasks.train.formats.lora_names import DENOISER, diffusers_prefixes, encoder_path
from tasks.train.formats.metadata import hash_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.tensors import adapter_layers, torch_dtype


def save(destination: Path, model: TrainedModel) -> Path:
    """Write the adapter as one safetensors file for `pipeline.load_lora_weights`.

    This layout has no alpha, and readers take alpha = rank: the strength alpha / rank is
    multiplied into `lora_B`, so that no reader gets it wrong.
    """
    parts = adapter_layers(model)
    method = model.method
    assert isinstance(method, Adapter)
    prefixes, dtype = diffusers_prefixes(model.family), torch_dtype(model.dtype)
    tensors = {}
    for part, layers in parts.items():
        for module, layer in layers.items():
            rank = rank_of(layer)
            if kind_of(layer) != "lora" or rank is None:
                raise ValueError(
                    f"stock diffusers loads LoRA alone, and {method.kind!r} was trained; use "
                    "kohya_lora"
                )
            is_encoder = part != DENOISER
            path = encoder_path(model.source, prefixes[part], module) if is_encoder else module
            for name, tensor in scaled(layer, method.alpha / rank).items():
                # transformers looks for the magnitude by the full name of its parameter.
                if is_encoder and name == MAGNITUDE:
                    name = f"{MAGNITUDE}.weight"
                tensors[f"{prefixes[part]}.{path}.{name}"] = tensor.to(dtype).contiguous()
    metadata = dict(model.metadata) | {"ss_network_alpha": str(float(method.rank))}
    return write_safetensors(destination, tensors, metadata | hash_metadata(tensors, metadata))
