"""The whole model as a diffusers folder (`model_index.json` and one folder per component)."""

import json
from pathlib import Path

from tasks.families.loading import load_pipeline, quiet_libraries
from tasks.train.formats.files import publish_folder, refuse_existing
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.tensors import finite, torch_dtype

METADATA_FILE = "tilewright.json"


def save(destination: Path, model: TrainedModel) -> Path:
    """Write the base model with the trained denoiser in it, all in the output data type.

    The folder also gets the metadata that other formats keep in the file header.
    """
    if model.rank is not None:
        raise ValueError(
            "output format 'diffusers' is a whole model, but a LoRA was trained; "
            "use kohya_lora or diffusers_lora"
        )
    refuse_existing(destination)
    dtype = torch_dtype(model.dtype)
    weights = finite(model, dtype)
    pipeline = load_pipeline(model.source, model.family, dtype)
    getattr(pipeline, model.family.denoiser).load_state_dict(weights)

    def write(folder: Path) -> None:
        with quiet_libraries():
            pipeline.save_pretrained(folder)
        text = json.dumps(dict(model.metadata), indent=2, sort_keys=True)
        (folder / METADATA_FILE).write_text(text + "\n", encoding="utf-8")

    return publish_folder(destination, write)
