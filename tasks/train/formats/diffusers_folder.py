"""The whole model as a diffusers folder (`model_index.json` and one folder per component)."""

import json
from pathlib import Path

from tasks.families.loading import load_pipeline, quiet_libraries
from tasks.lineage.origin import METADATA_FILE
from tasks.train.formats.files import publish_folder, refuse_existing
from tasks.train.formats.lora_names import diffusers_prefixes
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.tensors import refuse_adapters, torch_dtype, whole_weights


def save(destination: Path, model: TrainedModel) -> Path:
    """Write the base model with the trained parts in it, all in the output data type.

    The folder also gets the metadata that other formats keep in the file header.
    """
    refuse_adapters(model, "diffusers")
    refuse_existing(destination)
    pipeline = load_pipeline(model.source, model.family, torch_dtype(model.dtype))
    if model.scheduler:
        kind = type(pipeline.scheduler)
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **model.scheduler)
    for part, component in diffusers_prefixes(model.family).items():
        if weights := whole_weights(model, part):
            getattr(pipeline, component).load_state_dict(weights)

    def write(folder: Path) -> None:
        with quiet_libraries():
            pipeline.save_pretrained(folder)
        text = json.dumps(dict(model.metadata), indent=2, sort_keys=True)
        (folder / METADATA_FILE).write_text(text + "\n", encoding="utf-8")

    return publish_folder(destination, write)
