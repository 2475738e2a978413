"""SD 3, FLUX.1, PixArt and Sana against their stock pipelines: texts, predictions, latents."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tasks.encode.text import real_tokens
from tasks.families import FAMILIES
from tasks.families.loading import load_pipeline
from tasks.families.sources import resolve_model
from tasks.families.vae import encode_latents, latent_facts, scale_latents, unscale_latents
from tests.model_fixtures import TinyModels

Tensors = dict[str, torch.Tensor]
NAMES = ("sd3", "sd35", "flux_dev", "flux_schnell", "pixart_alpha", "pixart_sigma", "sana")
MASKED = ("pixart_alpha", "pixart_sigma", "sana")
PROMPTS = ["A harbour at dawn ", "", "Zoë: 9 boats, " * 24]
HEIGHT_PX, WIDTH_PX = 96, 64


@pytest.fixture(scope="module")
def pipeline_of(tiny_models: TinyModels) -> Callable[[str], Any]:
    loaded: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in loaded:
            source = resolve_model(str(tiny_models[name]), FAMILIES[name])
            loaded[name] = load_pipeline(source, FAMILIES[name], torch.float32)
            loaded[name].set_progress_bar_config(disable=True)
        return loaded[name]

    return load


def encode(pipeline: Any, name: str, prompts: list[str] = PROMPTS) -> dict[str, Tensors]:
    texts = {
        one.name: one.encode(
            getattr(pipeline, one.model), getattr(pipeline, one.tokenizer), prompts, one.layer_skip
        )
        for one in FAMILIES[name].text_encoders
    }
    for one in FAMILIES[name].text_encoders:
        assert set(texts[one.name]) == set(one.fields)
    return texts


def condition(pipeline: Any, name: str, prompts: list[str] = PROMPTS) -> Tensors:
    return dict(FAMILIES[name].condition(encode(pipeline, name, prompts), None))


@pytest.mark.parametrize("name", ["sd3", "sd35"])
def test_sd3_text(pipeline_of: Callable[[str], Any], name: str) -> None:
    pipeline = pipeline_of(name)
    stock, _, pooled, _ = pipeline.encode_prompt(
        PROMPTS, None, None, device="cpu", do_classifier_free_guidance=False
    )
    ours = condition(pipeline, name)
    assert ours["hidden"].shape == (3, 77 + 256, 96)
    assert torch.equal(ours["hidden"], stock)
    assert torch.equal(ours["pooled"], pooled)


@pytest.mark.parametrize(("name", "num_tokens"), [("flux_dev", 512), ("flux_schnell", 256)])
def test_flux_text(pipeline_of: Callable[[str], Any], name: str, num_tokens: int) -> None:
    pipeline = pipeline_of(name)
    stock, pooled, _ = pipeline.encode_prompt(
        PROMPTS, device="cpu", **{"max_sequence_length": num_tokens} | FAMILIES[name].sampling
    )
    ours = condition(pipeline, name)
    assert ours["hidden"].shape == (3, num_tokens, 96)
    assert torch.equal(ours["hidden"], stock)
    assert torch.equal(ours["pooled"], pooled)


@pytest.mark.parametrize(("name", "num_tokens"), [("pixart_alpha", 120), ("pixart_sigma", 300)])
def test_pixart_text(pipeline_of: Callable[[str], Any], name: str, num_tokens: int) -> None:
    pipeline = pipeline_of(name)
    stock, mask, _, _ = pipeline.encode_prompt(
        PROMPTS, do_classifier_free_guidance=False, device="cpu"
    )
    ours = condition(pipeline, name)
    assert ours["hidden"].shape == (3, num_tokens, 96)
    assert torch.equal(ours["hidden"], stock)
    assert torch.equal(ours["mask"], mask)


def test_sana_text_stands_behind_the_instruction(pipeline_of: Callable[[str], Any]) -> None:
    pipeline = pipeline_of("sana")
    seen: list[Tensors] = []
    # What a whole run of the stock pipeline gives its transformer: an empty and a real prompt.
    hook = pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    pipeline(
        PROMPTS[0], num_inference_steps=1, height=HEIGHT_PX, width=WIDTH_PX, guidance_scale=2.0,
        output_type="latent", **FAMILIES["sana"].sampling,
    )  # fmt: skip
    hook.remove()
    ours = condition(pipeline, "sana", ["", PROMPTS[0]])
    assert torch.equal(ours["mask"], seen[0]["encoder_attention_mask"])
    torch.testing.assert_close(ours["hidden"], seen[0]["encoder_hidden_states"])
    # The first token, and from the last of the instruction on: `a harbour at dawn`.
    assert ours["mask"].sum(dim=1).tolist() == [1, 2 + len(PROMPTS[0].strip())]


@pytest.mark.parametrize("name", NAMES)
def test_prediction_is_what_the_stock_pipeline_computes(
    pipeline_of: Callable[[str], Any], name: str
) -> None:
    family, pipeline = FAMILIES[name], pipeline_of(name)
    calls: list[tuple[Any, Any, Any]] = []
    hook = pipeline.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append((args, kwargs, output[0])),
        with_kwargs=True,
    )
    with torch.no_grad():
        pipeline(
            PROMPTS[0], num_inference_steps=3, height=HEIGHT_PX, width=WIDTH_PX,
            guidance_scale=1.0, output_type="latent", **family.sampling,
        )  # fmt: skip
    hook.remove()
    assert len(calls) == 3
    conditioning = condition(pipeline, name, [PROMPTS[0]])
    for args, kwargs, stock in calls:
        noisy = args[0] if args else kwargs["hidden_states"]
        t = kwargs["timestep"]
        if hasattr(pipeline, "_unpack_latents"):  # FLUX.1 packs, and divides its timesteps
            noisy, stock = (
                pipeline._unpack_latents(one, HEIGHT_PX, WIDTH_PX, 8) for one in (noisy, stock)
            )
            t = t * 1000
        with torch.no_grad():
            ours = family.predict(pipeline.transformer, noisy, t, conditioning)
        expected = (HEIGHT_PX // family.latent_factor, WIDTH_PX // family.latent_factor)
        assert ours.shape[-2:] == expected
        assert ours.shape == noisy.shape
        torch.testing.assert_close(ours, stock[:, : noisy.shape[1]])


@pytest.mark.parametrize("name", NAMES)
def test_text_and_time_matter(pipeline_of: Callable[[str], Any], name: str) -> None:
    family, pipeline = FAMILIES[name], pipeline_of(name)
    cells = 64 // family.latent_factor
    noisy = torch.zeros(3, pipeline.vae.config.latent_channels, cells, cells)
    conditioning = condition(pipeline, name)

    def predict(t: int) -> torch.Tensor:
        dtype = torch.int64 if family.objective == "ddpm" else torch.float32
        with torch.no_grad():
            return family.predict(
                pipeline.transformer, noisy, torch.full((3,), t, dtype=dtype), conditioning
            )

    first, second, third = predict(500)
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(predict(5)[0], first)


def test_guidance_is_told_where_the_transformer_has_it(pipeline_of: Callable[[str], Any]) -> None:
    told = {}
    for name in ("flux_dev", "flux_schnell"):
        pipeline = pipeline_of(name)
        seen: list[Any] = []
        hook = pipeline.transformer.register_forward_pre_hook(
            lambda module, args, kwargs, seen=seen: seen.append(kwargs), with_kwargs=True
        )
        noisy = torch.zeros(3, 16, 4, 4)
        FAMILIES[name].predict(
            pipeline.transformer, noisy, torch.ones(3), condition(pipeline, name)
        )
        hook.remove()
        told[name] = seen[0]["guidance"]
    assert told["flux_schnell"] is None
    assert told["flux_dev"].tolist() == [1.0] * 3


@pytest.mark.parametrize("name", MASKED)
def test_cut_texts_mean_the_same(pipeline_of: Callable[[str], Any], name: str) -> None:
    from torch.nn.utils.rnn import pad_sequence

    family, pipeline = FAMILIES[name], pipeline_of(name)
    whole = encode(pipeline, name)["text_encoder_1"]
    cut = [real_tokens({f: v[n] for f, v in whole.items()}, "mask") for n in range(3)]
    padded = {field: pad_sequence([one[field] for one in cut], True) for field in whole}
    cells = 64 // family.latent_factor
    noisy = torch.randn(3, pipeline.vae.config.latent_channels, cells, cells)
    short = {f: v[:2] for f, v in padded.items()}
    assert len(cut[1]["hidden"]) < len(cut[0]["hidden"]) < len(cut[2]["hidden"])

    def predict(texts: Tensors, count: int) -> torch.Tensor:
        conditioning = family.condition({"text_encoder_1": texts}, None)
        t = torch.tensor([7, 500, 999])[:count]
        with torch.no_grad():
            return family.predict(pipeline.transformer, noisy[:count], t, conditioning)

    expected = predict(whole, 3)
    torch.testing.assert_close(predict(padded, 3), expected)
    # A batch without the long prompt is padded to what its own prompts have.
    few = {f: v[:, : len(cut[0]["mask"])] for f, v in short.items()}
    torch.testing.assert_close(predict(few, 2), expected[:2])


@pytest.mark.parametrize("name", NAMES)
def test_latents_are_what_the_stock_vae_decodes(
    pipeline_of: Callable[[str], Any], tiny_models: TinyModels, name: str
) -> None:
    family, vae = FAMILIES[name], pipeline_of(name).vae
    pixels = torch.randint(0, 256, (2, 3, HEIGHT_PX, WIDTH_PX), dtype=torch.uint8)
    latents = encode_latents(vae, pixels, family.encode_image)
    factor = family.latent_factor
    assert latents.shape[2:] == (HEIGHT_PX // factor, WIDTH_PX // factor)
    image = pixels.float() / 127.5 - 1
    with torch.no_grad():
        output = vae.encode(image)
    stock = output.latent if name == "sana" else output.latent_dist.mode()
    torch.testing.assert_close(latents, stock)
    facts = latent_facts(resolve_model(str(tiny_models[name]), family), family)
    scaled = scale_latents(facts, latents)
    # As the stock pipelines undo it before they decode.
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    torch.testing.assert_close(scaled / vae.config.scaling_factor + shift, latents)
    torch.testing.assert_close(unscale_latents(facts, scaled), latents)


@pytest.mark.parametrize("name", NAMES)
def test_every_target_and_preset_names_layers(pipeline_of: Callable[[str], Any], name: str) -> None:
    from tasks.train.methods.layers import linear_layers, matching, with_suffix

    family, pipeline = FAMILIES[name], pipeline_of(name)
    names = linear_layers(pipeline.transformer)
    counts = [len(matching(names, [one], family.layers)) for one in family.layers]
    assert list(family.layers) == ["attn-only", "attn-mlp", "blocks", "full"]
    assert sorted(counts) == counts
    assert counts[0] < counts[1]
    # The default is attention and MLP.
    assert with_suffix(names, family.lora_targets) == matching(names, ["attn-mlp"], family.layers)
    for target in family.lora_targets:
        if not target.endswith(".proj_out"):
            assert with_suffix(names, [target]), target
    for one in family.text_encoders:
        found = linear_layers(getattr(pipeline, one.model))
        for target in one.lora_targets:
            assert with_suffix(found, [target]), (one.name, target)
    for block in family.blocks:
        assert isinstance(getattr(pipeline.transformer, block), torch.nn.ModuleList)
