"""Chroma, Qwen-Image, Z-Image and FLUX.2 against the stock pipelines."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Pipeline
from safetensors.torch import save_file
from torch import Tensor

from tasks.families import FAMILIES
from tasks.families.loading import load_component, load_pipeline
from tasks.families.packing import pack, unpack
from tasks.families.sources import resolve_model
from tasks.families.vae import encode_latents, latent_facts, scale_latents, unscale_latents
from tasks.train.methods.layers import linear_layers, matching, with_suffix
from tests.model_fixtures import TinyModels
from tests.tiny_newer import BUILDERS

NEWER = list(BUILDERS)
MASKED = ["chroma", "qwen_image", "z_image"]
PROMPTS = ["a harbour at dawn", "", "Zoe: 9 boats, [IMG] " * 40]
T = torch.tensor([1.0, 500.0, 999.5])


class Stock:
    """A tiny model as the stock pipeline, loaded once, and its denoiser recorded."""

    def __init__(self, models: TinyModels, name: str) -> None:
        self.family = FAMILIES[name]
        self.source = resolve_model(str(models[name]), self.family)
        self.pipeline = load_pipeline(self.source, self.family, torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        (self.encoder,) = self.family.text_encoders

    def text(self, prompts: list[str], layer_skip: int = 0) -> dict[str, Tensor]:
        with torch.no_grad():
            return self.encoder.encode(
                self.pipeline.text_encoder, self.pipeline.tokenizer, prompts, layer_skip
            )

    def predict(self, noisy: Tensor, t: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        conditioning = self.family.condition({self.encoder.name: dict(text)}, None)
        return self.family.predict(self.pipeline.transformer, noisy, t, conditioning)


_LOADED: dict[str, Stock] = {}


@pytest.fixture
def stock(tiny_models: TinyModels) -> Callable[[str], Stock]:
    def of(name: str) -> Stock:
        if name not in _LOADED:
            _LOADED[name] = Stock(tiny_models, name)
        return _LOADED[name]

    return of


def noise(stock: Stock, height: int = 8, width: int = 12) -> Tensor:
    """(3, C, h, w) of an image of 64 x 96 pixels."""
    per_cell = stock.family.latent_factor // 8
    generator = torch.Generator().manual_seed(1)
    shape = (3, 4 * per_cell**2, height // per_cell, width // per_cell)
    return torch.randn(shape, generator=generator)


def cut(text: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    """One row's fields as they are stored: without padding."""
    real = text["mask"][row].bool()
    return {name: value[row : row + 1, real] for name, value in text.items()}


def stock_text(stock: Stock) -> list[Tensor]:
    """What encode_prompt gives, as real tokens (T, D) per prompt."""
    pipeline, name = stock.pipeline, stock.family.name
    with torch.no_grad():
        if name == "chroma":
            hidden, _, mask, *_ = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
        elif name == "qwen_image":
            hidden, mask = pipeline.encode_prompt(PROMPTS, max_sequence_length=512)
        elif name == "z_image":
            rows, _ = pipeline.encode_prompt(list(PROMPTS), do_classifier_free_guidance=False)
            return list(rows)
        else:
            return list(pipeline.encode_prompt(PROMPTS)[0])
    return [row[real.bool()] for row, real in zip(hidden, mask, strict=True)]


@pytest.mark.parametrize("name", NEWER)
def test_text_equals_the_stock_pipeline(stock: Callable[[str], Stock], name: str) -> None:
    one = stock(name)
    text = one.text(PROMPTS)
    assert set(text) == set(one.encoder.fields)
    masks = text.get("mask", torch.ones(text["hidden"].shape[:2], dtype=torch.bool))
    for ours, real, theirs in zip(text["hidden"], masks, stock_text(one), strict=True):
        assert len(theirs) <= one.encoder.max_tokens
        torch.testing.assert_close(ours[real], theirs, atol=1e-5, rtol=1e-4)
    lengths = masks.sum(dim=1).tolist()
    assert (lengths[1] < lengths[0] < lengths[2]) == (name in MASKED)


@pytest.mark.parametrize("name", NEWER)
def test_layer_skip_and_gradients(stock: Callable[[str], Stock], name: str) -> None:
    one = stock(name)
    is_lower = not torch.equal(one.text(["a"])["hidden"], one.text(["a"], layer_skip=1)["hidden"])
    assert is_lower == (name != "chroma")
    weight = one.pipeline.text_encoder.get_input_embeddings().weight
    weight.requires_grad_(True)
    hidden = one.encoder.encode(one.pipeline.text_encoder, one.pipeline.tokenizer, ["a"], 0)
    hidden["hidden"].square().mean().backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0
    weight.requires_grad_(False).grad = None


def test_chroma_keeps_one_token_of_padding(stock: Callable[[str], Stock]) -> None:
    one = stock("chroma")
    # "ab" is a space, a, b and the end; then one of padding.
    assert one.text(["ab", "x" * 600])["mask"].sum(dim=1).tolist() == [4 + 1, 512]


@pytest.mark.parametrize("name", MASKED)
def test_padding_does_not_matter(stock: Callable[[str], Stock], name: str) -> None:
    one, noisy = stock(name), noise(stock(name))
    text = one.text(PROMPTS)
    with torch.no_grad():
        together = one.predict(noisy, T, text)
        alone = [one.predict(noisy[i : i + 1], T[i : i + 1], cut(text, i)) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    # The padding of stored texts is zeros; here it is something else again.
    other = dict(text, hidden=text["hidden"].where(text["mask"][..., None].bool(), 7.0))
    with torch.no_grad():
        torch.testing.assert_close(one.predict(noisy, T, other), together, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NEWER)
def test_gradient_checkpointing_changes_nothing(stock: Callable[[str], Stock], name: str) -> None:
    one, noisy = stock(name), noise(stock(name))
    denoiser, text = one.pipeline.transformer, one.text(PROMPTS)
    weights = [weight.requires_grad_(True) for weight in denoiser.parameters()]
    found = []
    for checkpointing in (False, True):
        denoiser.train()
        if checkpointing:
            denoiser.enable_gradient_checkpointing()
        prediction = one.predict(noisy, T, text)
        gradients = torch.autograd.grad(prediction.square().mean(), weights, allow_unused=True)
        found.append([prediction, *(value for value in gradients if value is not None)])
    denoiser.disable_gradient_checkpointing()
    denoiser.eval().requires_grad_(False)
    assert len(found[0]) == len(found[1]) > len(weights) * 0.9
    for plain, checkpointed in zip(*found, strict=True):
        assert plain.isfinite().all()
        torch.testing.assert_close(checkpointed, plain, atol=1e-5, rtol=1e-3)


def recorded(one: Stock, noisy: Tensor, **settings: Any) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Inputs and output of the denoiser in the first step of a stock image, and its timestep."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []

    def remember(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        calls.append((args, kwargs, output[0]))

    handle = one.pipeline.transformer.register_forward_hook(remember, with_kwargs=True)
    try:
        one.pipeline(
            prompt=list(PROMPTS), num_inference_steps=1, width=96, height=64, output_type="latent",
            latents=noisy, **settings,
        )  # fmt: skip
    finally:
        handle.remove()
    args, kwargs, output = calls[0]
    return {"args": args, **kwargs}, output, one.pipeline.scheduler.timesteps[:1].expand(3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen_image", {}),
        ("flux2", {"guidance_scale": 1.0}),
        ("flux2_klein", {"guidance_scale": 1.0}),
    ],
)
def test_prediction_equals_the_stock_pipelines_call(
    stock: Callable[[str], Stock], name: str, settings: dict[str, Any]
) -> None:
    one = stock(name)
    noisy = noise(one)
    given = pack(noisy) if name == "qwen_image" else noisy
    call, tokens, t = recorded(one, given, **settings)
    packed = pack(noisy) if name == "qwen_image" else noisy.flatten(2).transpose(1, 2)
    assert torch.equal(call["hidden_states"], packed)
    with torch.no_grad():
        ours = one.predict(noisy, t, one.text(PROMPTS))
    assert ours.shape == noisy.shape
    if name == "qwen_image":
        theirs = unpack(tokens, *noisy.shape[-2:])
    else:
        theirs = tokens.transpose(1, 2).reshape(noisy.shape)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_z_image_prediction_equals_the_stock_pipelines(stock: Callable[[str], Stock]) -> None:
    one = stock("z_image")
    noisy = noise(one)
    _, images, t = recorded(one, noisy, guidance_scale=0.0)
    with torch.no_grad():
        ours = one.predict(noisy, t, one.text(PROMPTS))
    # The pipeline turns the sign of what the denoiser gives.
    torch.testing.assert_close(ours, -torch.stack(images).squeeze(2), atol=1e-5, rtol=1e-4)


def test_chroma_prediction_equals_the_stock_call_with_a_real_mask(
    stock: Callable[[str], Stock],
) -> None:
    one = stock("chroma")
    noisy = noise(one)
    call, as_called, t = recorded(one, pack(noisy), guidance_scale=1.0)
    with torch.no_grad():
        ours = one.predict(noisy, t, one.text(PROMPTS))
        call["attention_mask"] = call["attention_mask"].bool()
        del call["args"]
        theirs = one.pipeline.transformer(**call)[0]
    torch.testing.assert_close(pack(ours), theirs, atol=1e-5, rtol=1e-4)
    # When this fails, diffusers has corrected its issue 12116: compare as for the others.
    assert not torch.allclose(theirs, as_called, atol=1e-4)


@pytest.mark.parametrize("name", NEWER)
def test_time_and_text_matter(stock: Callable[[str], Stock], name: str) -> None:
    one = stock(name)
    noisy, text = noise(one)[:1].repeat(3, 1, 1, 1), one.text(PROMPTS)
    with torch.no_grad():
        first, second, third = one.predict(noisy, T[:1].repeat(3), text)
        later = one.predict(noisy, T[2:].repeat(3), text)[0]
    for other in (second, third, later):
        assert not torch.allclose(first, other, atol=1e-5)


@pytest.mark.parametrize("name", NEWER)
def test_the_stock_pipeline_draws(stock: Callable[[str], Stock], name: str) -> None:
    pipeline = stock(name).pipeline
    image = pipeline(prompt="a boat", num_inference_steps=1, width=96, height=64).images[0]
    assert image.size == (96, 64)


def test_flux2_is_saved_so_that_it_loads_without_torchvision(
    stock: Callable[[str], Stock], tmp_path: Path
) -> None:
    one = stock("flux2")
    one.pipeline.save_pretrained(tmp_path)
    again = Flux2Pipeline.from_pretrained(tmp_path, local_files_only=True)
    with torch.no_grad():
        assert torch.equal(again.encode_prompt(PROMPTS)[0], one.text(PROMPTS)["hidden"])


@pytest.mark.parametrize("name", NEWER)
def test_latents_are_scaled_as_the_pipeline_does(stock: Callable[[str], Stock], name: str) -> None:
    one = stock(name)
    vae, family = one.pipeline.vae, one.family
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    latents = encode_latents(vae, pixels, family.encode_image)
    assert latents.shape[-2:] == (64 // family.latent_factor, 96 // family.latent_factor)
    facts = latent_facts(one.source, family)
    scaled = scale_latents(facts, latents)
    torch.testing.assert_close(unscale_latents(facts, scaled), latents)
    with torch.no_grad():
        theirs = expected_latents(one, pixels.float() / 127.5 - 1)
    torch.testing.assert_close(scaled, theirs, atol=1e-5, rtol=1e-4)


def expected_latents(one: Stock, image: Tensor) -> Tensor:
    vae = one.pipeline.vae
    if hasattr(one.pipeline, "_encode_vae_image"):
        latents: Tensor = one.pipeline._encode_vae_image(image, generator=None)
        return latents
    if one.family.name == "qwen_image":
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return (vae.encode(image[:, :, None]).latent_dist.mode()[:, :, 0] - mean) / std
    latents = vae.encode(image).latent_dist.mode()
    return (latents - vae.config.shift_factor) * vae.config.scaling_factor


def test_flux2_says_when_the_statistics_are_missing(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    family = FAMILIES["flux2_klein"]
    source = resolve_model(str(tiny_models["flux2_klein"]), family)
    vae = load_component(source, family, "vae", torch.float32)
    state = {name: value for name, value in vae.state_dict().items() if "running_var" not in name}
    (tmp_path / "model_index.json").write_text((source.folder / "model_index.json").read_text())
    vae.save_pretrained(tmp_path / "vae")
    save_file(state, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match="no bn.running_mean and _var"):
        latent_facts(resolve_model(str(tmp_path), family), family)


def test_packing_equals_the_stock_pipelines(stock: Callable[[str], Stock]) -> None:
    latents = torch.randn(2, 4, 6, 8)
    pipeline = stock("qwen_image").pipeline
    assert torch.equal(pack(latents), pipeline._pack_latents(latents, 2, 4, 6, 8))
    assert torch.equal(unpack(pack(latents), 6, 8), latents)


@pytest.mark.parametrize("name", NEWER)
def test_layer_names_are_those_of_the_model(stock: Callable[[str], Stock], name: str) -> None:
    family, denoiser = stock(name).family, stock(name).pipeline.transformer
    names = linear_layers(denoiser)
    targets = set(with_suffix(names, family.lora_targets))
    assert targets == set(matching(names, ["attn-mlp"], family.layers))
    sizes = [
        len(matching(names, [preset], family.layers))
        for preset in ("attn-only", "attn-mlp", "blocks", "full")
    ]
    assert sizes[0] < sizes[1] <= sizes[2] < sizes[3] == len(names)
    for block in family.blocks:
        assert isinstance(getattr(denoiser, block), torch.nn.ModuleList)
