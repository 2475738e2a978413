"""Inpainting models are told what their stock pipelines tell them: channel by channel."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.encode.holes import encode_fields
from tasks.families import FAMILIES
from tasks.families.loading import load_pipeline
from tasks.families.sources import resolve_model
from tasks.families.vae import encode_latents, scale_latents
from tests.model_fixtures import TinyModels

NAMES = [family.name for family in FAMILIES.values() if family.inpaints]
HEIGHT, WIDTH = 64, 96
PROMPT = "a harbour at dawn"


@pytest.fixture(scope="module")
def pipelines(tiny_models: TinyModels) -> dict[str, Any]:
    found = {}
    for name in NAMES:
        family = FAMILIES[name]
        pipeline = load_pipeline(
            resolve_model(str(tiny_models[name]), family), family, torch.float32
        )
        # The pipelines draw from the VAE's distribution, training takes its mean: make them one.
        with torch.no_grad():
            pipeline.vae.quant_conv.weight[4:] = 0
            pipeline.vae.quant_conv.bias[4:] = -30
        found[name] = pipeline
    return found


def unet_call(pipeline: Any, **settings: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Input, timestep and output of the UNet in the first step of a stock image."""
    calls: list[tuple[torch.Tensor, ...]] = []

    def remember(module: Any, args: Any, output: Any) -> None:
        calls.append((args[0], args[1], output[0]))

    handle = pipeline.unet.register_forward_hook(remember)
    try:
        pipeline(
            PROMPT, num_inference_steps=1, guidance_scale=1.0, height=HEIGHT, width=WIDTH,
            output_type="latent", generator=torch.Generator().manual_seed(1), **settings,
        )  # fmt: skip
    finally:
        handle.remove()
    return calls[0][0], calls[0][1], calls[0][2]


def holes_of(pipeline: Any, image: np.ndarray) -> torch.Tensor:
    """What training gives the model of (H, W, 4) pixels, by what the stage of latents stores."""

    def encode(images: list[np.ndarray]) -> list[torch.Tensor]:
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return list(encode_latents(pipeline.vae, pixels))

    (fields,) = encode_fields(encode)([image])
    masked = scale_latents(pipeline.vae.config, fields["masked"])
    return torch.cat([torch.from_numpy(fields["mask"]).float(), masked])[None]


@pytest.mark.parametrize("name", NAMES)
def test_holes_and_prediction_equal_the_stock_pipelines(
    pipelines: dict[str, Any], name: str
) -> None:
    family, pipeline = FAMILIES[name], pipelines[name]
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:40, 20:77] = 255  # its edges lie inside of cells
    mask[50:, :30] = 127  # just less than half
    mask[50:, 50:] = 128
    image[..., 3] = mask < 128
    given, t, theirs = unet_call(
        pipeline,
        image=Image.fromarray(image[..., :3]),
        mask_image=Image.fromarray(mask),
        strength=1.0,
    )
    holes = holes_of(pipeline, image)
    assert 0 < holes[:, 0].mean() < 1
    assert torch.equal(given[:, 4:5], holes[:, :1])
    torch.testing.assert_close(given[:, 5:], holes[:, 1:], atol=1e-4, rtol=1e-4)

    texts = {
        one.name: one.encode(
            getattr(pipeline, one.model), getattr(pipeline, one.tokenizer), [PROMPT], 0
        )
        for one in family.text_encoders
    }
    sizes = torch.tensor([[HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]])
    conditioning = family.condition(texts, sizes if family.size_conditioned else None)
    with torch.no_grad():
        ours = family.predict(
            pipeline.unet, given[:, :4], t.expand(1), {**conditioning, "holes": holes}
        )
    assert ours.shape == given[:, :4].shape
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_samples_paint_everything_from_nothing(pipelines: dict[str, Any], name: str) -> None:
    pipeline = pipelines[name]
    given, _, _ = unet_call(pipeline, **FAMILIES[name].sampling)
    grey = holes_of(pipeline, np.zeros((HEIGHT, WIDTH, 4), np.uint8))
    torch.testing.assert_close(given[:, 4:], grey, atol=1e-4, rtol=1e-4)
    assert (grey[:, 0] == 1).all()
    # Nothing of an image is in the noise that it begins with.
    other = {**FAMILIES[name].sampling, "image": Image.new("RGB", (8, 8), "red")}
    again, _, _ = unet_call(pipeline, **other)
    assert torch.equal(again, given)
