"""Single files load back into stock diffusers, bit by bit what was trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.families import FAMILIES
from tasks.families.output_formats import SINGLE_FILE_PIPELINES
from tasks.train.formats import OUTPUT_FORMATS
from tests.model_fixtures import TinyModels
from tests.tasks.train.formats.models import FULL, component_of, load, stock, trained

WHOLE = [
    name
    for name, family in FAMILIES.items()
    if SINGLE_FILE_PIPELINES.get(family.pipeline) == "whole model"
]


def moved(module: Any) -> dict[str, torch.Tensor]:
    """The module's state dict, a little beside itself."""
    torch.manual_seed(3)
    return {key: one + 0.01 * torch.randn_like(one) for key, one in module.state_dict().items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_model_loads_from_a_single_file(
    tiny_models: TinyModels, tmp_path: Path, name: str, dtype: str
) -> None:
    import diffusers

    family, folder = FAMILIES[name], tiny_models[name]
    pipeline = stock(folder, name)
    names = ["denoiser", *(one.name for one in family.text_encoders)]
    parts = {part: moved(getattr(pipeline, component_of(name, part))) for part in names}
    path = OUTPUT_FORMATS["single_file"](
        tmp_path / "model.safetensors", trained(folder, name, FULL, parts, dtype=dtype)
    )
    loaded = getattr(diffusers, family.pipeline).from_single_file(
        str(path), config=str(folder), local_files_only=True, dtype=getattr(torch, dtype)
    )
    wanted = {component_of(name, part): state for part, state in parts.items()}
    wanted["vae"] = pipeline.vae.state_dict()
    for component, state in wanted.items():
        found = getattr(loaded, component).state_dict()
        assert found.keys() == state.keys()
        for key, value in state.items():
            assert torch.equal(found[key], value.to(getattr(torch, dtype))), (component, key)


def test_an_open_clip_encoder_has_the_names_of_stable_diffusion_2(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    """Stable Diffusion 2 has OpenCLIP's encoder, whose activation is the plain GELU."""
    import diffusers

    folder = tmp_path / "sd2"
    shutil.copytree(tiny_models["sd2"], folder)
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "gelu"}))
    state = moved(load(folder, "sd2", "text_encoder"))
    model = trained(folder, "sd2", FULL, {"text_encoder_1": state})
    path = OUTPUT_FORMATS["single_file"](tmp_path / "model.safetensors", model)
    loaded = diffusers.StableDiffusionPipeline.from_single_file(
        str(path), config=str(folder), local_files_only=True
    )
    found = loaded.text_encoder.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_a_family_without_such_a_layout_is_refused(tiny_models: TinyModels, tmp_path: Path) -> None:
    import dataclasses

    family = dataclasses.replace(FAMILIES["sd15"], pipeline="SanaPipeline", denoiser="transformer")
    model = dataclasses.replace(trained(tiny_models["sd15"], "sd15", FULL, {}), family=family)
    with pytest.raises(ValueError, match="SanaPipeline"):
        OUTPUT_FORMATS["single_file"](tmp_path / "model.safetensors", model)
