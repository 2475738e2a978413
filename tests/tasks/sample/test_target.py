"""The size of an image when none is said is that of the family's stock pipeline."""

import json

import pytest

from tasks.families import FAMILIES
from tasks.sample.target import EDGE_PX, find_target
from tests.model_fixtures import TinyModels

TELLS = {"sd15", "sd2", "sdxl", "sd3", "sd35", "pixart_alpha", "pixart_sigma", "sana"}
"""Families whose denoisers have a sample_size, in latent cells."""


@pytest.mark.parametrize("name", FAMILIES)
def test_images_are_as_large_as_the_stock_pipelines(tiny_models: TinyModels, name: str) -> None:
    family, model = FAMILIES[name], tiny_models[name]
    config = json.loads((model / family.denoiser / "config.json").read_text())
    size = find_target(str(model), None).size
    if name.removesuffix("_inpaint") in TELLS:
        assert size == (config["sample_size"] * family.latent_factor,) * 2
    else:
        assert size == (EDGE_PX, EDGE_PX)


@pytest.mark.parametrize("name", ["flux_dev", "chroma", "qwen_image", "flux2", "flux2_klein"])
def test_models_that_do_not_say_are_of_1024_pixels(tiny_models: TinyModels, name: str) -> None:
    import diffusers

    pipeline = getattr(diffusers, FAMILIES[name].pipeline)
    found = pipeline.from_pretrained(tiny_models[name], text_encoder=None, tokenizer=None)
    assert found.default_sample_size * found.vae_scale_factor == EDGE_PX
