"""LoRA in diffusers' own layout: `unet.<module>.lora_A.weight` and `lora_B`."""

from pathlib import Path

from tasks.train.formats.files import write_safetensors
from tasks.train.formats.metadata import hash_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.tensors import adapter_of


def save(destination: Path, model: TrainedModel) -> Path:
    """Write the adapter as one safetensors file for `pipeline.load_lora_weights`.

    This layout has no alpha, and readers take alpha = rank: the strength alpha / rank is
    multiplied into `lora_B`, so that no reader gets it wrong.
    """
    adapter = adapter_of(model)
    scale = adapter.alpha / adapter.rank
    tensors = {
        f"{model.family.denoiser}.{name}": (tensor * scale if ".lora_B." in name else tensor).to(
            adapter.dtype
        )
        for name, tensor in adapter.weights.items()
    }
    metadata = dict(model.metadata) | {"ss_network_alpha": str(float(adapter.rank))}
    return write_safetensors(destination, tensors, metadata | hash_metadata(tensors, metadata))
