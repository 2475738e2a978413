from typing import Any

import pytest
import torch

from tasks.families import FAMILIES
from tasks.families.loading import load_component, load_pipeline
from tasks.families.sources import resolve_model
from tasks.families.vae import encode_latents, scale_latents, unscale_latents
from tests.model_fixtures import TinyModels

UNETS = ("sd15", "sd2", "sdxl")
PROMPTS = ["a harbour at dawn", "", "Zoë: 9 boats, " * 20]


@pytest.fixture(scope="module")
def pipelines(tiny_models: TinyModels) -> dict[str, Any]:
    return {
        name: load_pipeline(resolve_model(str(tiny_models[name]), family), family, torch.float32)
        for name, family in ((name, FAMILIES[name]) for name in UNETS)
    }


def encode(pipeline: Any, name: str, layer_skip: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    return {
        encoder.name: encoder.encode(
            getattr(pipeline, encoder.model),
            getattr(pipeline, encoder.tokenizer),
            PROMPTS,
            layer_skip,
        )
        for encoder in FAMILIES[name].text_encoders
    }


@pytest.mark.parametrize("name", ["sd15", "sd2"])
def test_sd_text_equals_the_stock_pipeline(pipelines: dict[str, Any], name: str) -> None:
    pipeline = pipelines[name]
    stock, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=False)
    ours = encode(pipeline, name)["text_encoder_1"]
    assert set(ours) == {"hidden"}
    assert ours["hidden"].shape == (3, 77, 32)
    assert torch.equal(ours["hidden"], stock)
    assert not ours["hidden"].requires_grad


def test_sdxl_text_equals_the_stock_pipeline(pipelines: dict[str, Any]) -> None:
    pipeline = pipelines["sdxl"]
    stock, _, pooled, _ = pipeline.encode_prompt(
        PROMPTS, device="cpu", do_classifier_free_guidance=False
    )
    texts = encode(pipeline, "sdxl")
    assert {name: set(fields) for name, fields in texts.items()} == {
        encoder.name: set(encoder.fields) for encoder in FAMILIES["sdxl"].text_encoders
    }
    conditioning = FAMILIES["sdxl"].condition(texts, torch.zeros(3, 6))
    assert conditioning["hidden"].shape == (3, 77, 80)
    assert torch.equal(conditioning["hidden"], stock)
    assert torch.equal(conditioning["pooled"], pooled)


def test_second_tokenizer_pads_with_an_exclamation_mark(pipelines: dict[str, Any]) -> None:
    ids = pipelines["sdxl"].tokenizer_2("a", padding="max_length", max_length=9).input_ids
    mark = pipelines["sdxl"].tokenizer_2.convert_tokens_to_ids("!")
    assert ids[3:] == [mark] * 6


def test_layer_skip_equals_clip_skip(pipelines: dict[str, Any]) -> None:
    pipeline = pipelines["sdxl"]
    stock, _, pooled, _ = pipeline.encode_prompt(
        PROMPTS, device="cpu", do_classifier_free_guidance=False, clip_skip=1
    )
    texts = encode(pipeline, "sdxl", layer_skip=1)
    conditioning = FAMILIES["sdxl"].condition(texts, torch.zeros(3, 6))
    assert torch.equal(conditioning["hidden"], stock)
    assert torch.equal(conditioning["pooled"], pooled)
    # The stock SD pipeline cannot be asked: its clip skip fails since transformers 5.6.
    encoder = pipelines["sd15"].text_encoder
    ids = pipelines["sd15"].tokenizer(
        PROMPTS, padding="max_length", truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        states = encoder(ids.input_ids, output_hidden_states=True).hidden_states
        expected = encoder.final_layer_norm(states[-2])
    skipped = encode(pipelines["sd15"], "sd15", layer_skip=1)
    assert torch.equal(skipped["text_encoder_1"]["hidden"], expected)


@pytest.mark.parametrize("name", UNETS)
def test_prediction_equals_the_stock_denoiser_call(pipelines: dict[str, Any], name: str) -> None:
    family, pipeline = FAMILIES[name], pipelines[name]
    noisy, t = torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999])
    sizes = torch.tensor([[64, 96, 0, 8, 64, 64]]).repeat(3, 1) if family.size_conditioned else None
    conditioning = family.condition(encode(pipeline, name), sizes)
    added = None
    if sizes is not None:
        ids = [pipeline._get_add_time_ids((64, 96), (0, 8), (64, 64), torch.float32, 48)] * 3
        added = {"text_embeds": conditioning["pooled"], "time_ids": torch.cat(ids)}
    with torch.no_grad():
        ours = family.predict(pipeline.unet, noisy, t, conditioning)
        stock = pipeline.unet(
            noisy,
            t,
            encoder_hidden_states=conditioning["hidden"],
            added_cond_kwargs=added,
        ).sample
    assert ours.shape == noisy.shape
    assert torch.equal(ours, stock)


def test_gradients_reach_a_text_encoder_that_trains(pipelines: dict[str, Any]) -> None:
    model = pipelines["sdxl"].text_encoder_2
    weight = model.get_parameter("text_projection.weight").requires_grad_()
    encode(pipelines["sdxl"], "sdxl")["text_encoder_2"]["pooled"].sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    weight.requires_grad_(False)
    weight.grad = None


@pytest.mark.parametrize("name", UNETS)
def test_size_conditioning_and_text_matter(pipelines: dict[str, Any], name: str) -> None:
    family, pipeline = FAMILIES[name], pipelines[name]
    noisy, t = torch.zeros(3, 4, 8, 8), torch.tensor([5, 5, 5])
    conditioning = family.condition(encode(pipeline, name), torch.full((3, 6), 64.0))
    with torch.no_grad():
        first, second, third = family.predict(pipeline.unet, noisy, t, conditioning)
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)


def test_latents_are_the_unscaled_mean(tiny_models: TinyModels) -> None:
    family = FAMILIES["sd15"]
    source = resolve_model(str(tiny_models["sd15"]), family)
    vae = load_component(source, family, "vae", torch.float32)
    pixels = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    latents = encode_latents(vae, pixels)
    assert (latents.shape, latents.dtype) == ((2, 4, 8, 6), torch.float32)
    with torch.no_grad():
        stock = vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(latents, stock)
    torch.testing.assert_close(encode_latents(vae, pixels[1:]), latents[1:], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="uint8 of shape"):
        encode_latents(vae, pixels.float())


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 0.18215 * 2),
        ({"scaling_factor": 0.5}, 1.0),
        ({"scaling_factor": 0.5, "shift_factor": 1.0}, 0.5),
        ({"scaling_factor": 0.5, "latents_mean": [1.0] * 4, "latents_std": [0.25] * 4}, 2.0),
        ({"latents_mean": [1.0] * 4, "latents_std": [0.25] * 4}, 4.0),
    ],
)
def test_scaling(config: dict[str, Any], expected: float) -> None:
    latents = torch.full((1, 4, 2, 2), 2.0)
    scaled = scale_latents(config, latents)
    torch.testing.assert_close(scaled, torch.full_like(latents, expected))
    torch.testing.assert_close(unscale_latents(config, scaled), latents)
