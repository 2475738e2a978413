"""The losses of the first five steps of every family by every method must not drift.

`tests/golden/losses.json` holds them; accept new ones with `--golden=write` if they should change.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.config.models import Config
from tasks.families import FAMILIES
from tasks.families.base import Family
from tasks.families.live import live_encoders
from tasks.families.loading import ModelSource, load_component, resolve_model
from tasks.families.vae import load_vae_encoder
from tasks.train.batch import Batch, StepBatches
from tasks.train.noise import normal
from tasks.train.setup import build_training
from tasks.train.step import optimizer_step
from tests.tasks.train.synthetic import make_config

GOLDEN = Path(__file__).parents[2] / "golden" / "losses.json"
CPU = torch.device("cpu")
STEPS = 5
PROMPTS = ("a red boat <x>", "")
WORDS = [{"placeholder": "<x>", "initial_text": "a", "num_vectors": 2}]
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": {"kind": "full"}},
    "lora": {"method": {"kind": "lora", "rank": 2}},
    "dora": {"method": {"kind": "lora", "rank": 2, "dora": True}},
    "loha": {"method": {"kind": "loha", "rank": 2}},
    "lokr": {"method": {"kind": "lokr", "rank": 2}},
    "embedding": {"method": {"kind": "embedding"}, "embeddings": WORDS},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_losses_of_a_family_by_every_method(name, tiny_models, request):
    family, model = FAMILIES[name], tiny_models[name]
    source = resolve_model(str(model), family)
    latents, texts = latents_of(family, source), texts_of(family, source)
    holes = holes_of(family, source)
    now = {
        method: five_losses(name, model, source, settings, latents, texts, holes=holes)
        for method, settings in METHODS.items()
    }
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--golden") == "write":
        GOLDEN.write_text(json.dumps(golden | {name: now}, indent=1, sort_keys=True) + "\n")
        return
    for method, losses in now.items():
        assert losses == pytest.approx(golden[name][method], rel=1e-3), method


def latents_of(family: Family, source: ModelSource) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    return torch.stack(load_vae_encoder(source, family, torch.float32, CPU)(list(pixels)))


def holes_of(family: Family, source: ModelSource) -> torch.Tensor | None:
    """Half of the first image is to be painted, and all of the second."""
    if not family.inpaints:
        return None
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 4), np.uint8)
    pixels[..., 3] = 0
    pixels[0, :, 32:, 3] = 1
    masked = load_vae_encoder(source, family, torch.float32, CPU)(list(pixels))
    mask = 1 - torch.from_numpy(pixels[:, None, ::8, ::8, 3]).float()
    return torch.cat([mask, torch.stack(masked)], dim=1)


def texts_of(family: Family, source: ModelSource) -> dict[str, dict[str, torch.Tensor]]:
    texts = {}
    for encoder in family.text_encoders:
        tokenizer, model = (
            load_component(source, family, name, torch.float32)
            for name in (encoder.tokenizer, encoder.model)
        )
        with torch.no_grad():
            texts[encoder.name] = encoder.encode(model, tokenizer, PROMPTS, encoder.layer_skip)
    return texts


def five_losses(
    name: str,
    model: Path,
    source: ModelSource,
    settings: dict[str, Any],
    latents: torch.Tensor,
    texts: dict[str, dict[str, torch.Tensor]],
    *,
    holes: torch.Tensor | None,
) -> list[float]:
    config = make_config(model, "unused", **settings)
    values = config.model_dump() | {"model": config.model.model_dump() | {"family": name}}
    config, family = Config.model_validate(values), FAMILIES[name]
    training = build_training(config, family, source, CPU)
    training.total_steps = STEPS
    live = {encoder.name for encoder in live_encoders(config, family)}
    losses = []
    for step in range(STEPS):
        noise = normal(tuple(latents.shape[1:]), 0, 0, (2 * step, 2 * step + 1))
        times = [training.objective.timestep(share) for share in (0.1 + 0.1 * step, 0.8)]
        batch = Batch(
            rows=(0, 1),
            epoch=0,
            position=2 * step,
            latents=latents,
            noise=noise,
            input_noise=noise,
            timesteps=torch.tensor(times),
            prompts=PROMPTS,
            texts={encoder: fields for encoder, fields in texts.items() if encoder not in live},
            sizes=torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2),
            weights=torch.ones(2),
            is_prior=(False, False),
            holes=holes,
        )
        data = StepBatches(epoch=0, step_in_epoch=step, ends_epoch=False, batches=[batch])
        result = optimizer_step(training, data, lambda: False)
        training.progress = training.progress.after_step(result.loss, data)
        assert result.loss is not None
        losses.append(result.loss)
    return losses
