"""Trained models for the tests of formats: random adapters on tiny models, and their outputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.config.methods import (
    Adapter,
    EmbeddingMethod,
    FullMethod,
    LohaMethod,
    LokrMethod,
    LoraMethod,
    Method,
)
from tasks.families import FAMILIES
from tasks.families.adapters import peft_config
from tasks.families.loading import load_component, load_pipeline
from tasks.families.sources import resolve_model
from tasks.families.vae import encode_latents
from tasks.train.formats.metadata import RunFacts, build_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.methods.adapters import state
from tasks.train.methods.layers import linear_layers, with_suffix

RANK, ALPHA = 4, 6.0
LORA = LoraMethod(rank=RANK, alpha=ALPHA)
DORA = LoraMethod(rank=RANK, alpha=ALPHA, dora=True)
LOHA = LohaMethod(rank=RANK, alpha=ALPHA)
LOKR = LokrMethod(rank=RANK, alpha=ALPHA, factor=4)
FULL = FullMethod()
WORDS = EmbeddingMethod()
FACTS = RunFacts(
    title="harbour",
    resolution="512,768",
    started_at=1_700_000_000.0,
    finished_at=1_700_000_060.0,
    steps=10,
    max_steps=20,
    epochs=2,
    num_images=5,
    learning_rate=1e-4,
    batch_size=2,
    seed=42,
    optimizer="adamw",
    schedule="cosine",
    mixed_precision="bfloat16",
    part_learning_rates={"denoiser": 1e-4, "text_encoder_1": 5e-5},
    session_id="123",
    comment="by a test",
    bucket_counts={(512, 512): 3, (448, 576): 2},
    concepts={"harbour": {"n_repeats": 2, "img_count": 5}},
    tag_counts={"harbour": {"boat": 4}},
    words=("<boat>",),
    extra={"tilewright.dataset": "harbour@3"},
)


def source_of(folder: Path, name: str) -> Any:
    return resolve_model(str(folder), FAMILIES[name])


def stock(folder: Path, name: str) -> Any:
    """The stock pipeline, without any of our weights."""
    return load_pipeline(source_of(folder, name), FAMILIES[name], torch.float32)


def component_of(name: str, part: str) -> str:
    """The pipeline's attribute of a part."""
    family = FAMILIES[name]
    if part == "denoiser":
        return family.denoiser
    return next(one.model for one in family.text_encoders if one.name == part)


def adapt(
    module: Any, method: Adapter, suffixes: Sequence[str], seed: int = 5
) -> dict[str, torch.Tensor]:
    """Gives a module a random adapter of large effect; its weights as training keeps them."""
    from peft import inject_adapter_in_model

    generator = torch.Generator().manual_seed(seed)
    layers = with_suffix(linear_layers(module), suffixes)
    module.requires_grad_(False)
    inject_adapter_in_model(peft_config(method, layers), module)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter += 0.2 * noise
    return {key: tensor.detach().clone() for key, tensor in state(module).items()}


def trained(
    folder: Path,
    name: str,
    method: Method,
    parts: Mapping[str, Mapping[str, torch.Tensor]],
    **changes: Any,
) -> TrainedModel:
    source = source_of(folder, name)
    metadata = build_metadata(FAMILIES[name], source, FACTS, method)
    values: dict[str, Any] = {"dtype": "float32", "metadata": metadata} | changes
    return TrainedModel(family=FAMILIES[name], source=source, method=method, parts=parts, **values)


def predict(pipeline: Any, name: str, module: Any = None) -> torch.Tensor:
    """What the pipeline's own text encoders and denoiser make of a prompt and fixed noise."""
    family = FAMILIES[name]
    module = module or getattr(pipeline, family.denoiser)
    with torch.no_grad():
        texts = {
            one.name: one.encode(
                getattr(pipeline, one.model), getattr(pipeline, one.tokenizer), ["a boat"], 0
            )
            for one in family.text_encoders
        }
        sizes = torch.tensor([[64, 64, 0, 0, 64, 64]]) if family.size_conditioned else None
        pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        latents = encode_latents(pipeline.vae, pixels, family.encode_image)
        noisy = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
        t = torch.tensor([500]) if family.objective == "ddpm" else torch.tensor([500.0])
        conditioning = dict(family.condition(texts, sizes))
        if family.inpaints:
            conditioning["holes"] = torch.cat([torch.ones_like(noisy[:, :1]), 0.3 * noisy], dim=1)
        return family.predict(module, noisy, t, conditioning)


def load(folder: Path, name: str, component: str) -> Any:
    return load_component(source_of(folder, name), FAMILIES[name], component, torch.float32)
