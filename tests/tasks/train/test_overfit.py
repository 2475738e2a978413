"""Each objective learns: 200 steps on four real photos, and samples come near to the photos."""

import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from storage.store import open_store
from tasks.families.vae import scale_latents
from tasks.train.batches import step_batches
from tasks.train.loop import silent_hooks, train
from tasks.train.rows import latent_ref
from tasks.train.sampling import stock_pipeline
from tasks.train.setup import Run, prepare_run
from tasks.train.state import weights_in_use
from tests.projects import make_old, make_project
from tests.tasks.train.synthetic import make_spec

PHOTOS = Path(__file__).parents[3] / "deployments" / "demo" / "photos"
STEPS = 200
OBJECTIVES = {"epsilon": "sd15", "v_prediction": "sd2", "flow": "z_image"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_falls_and_samples_move_towards_the_photos(objective, tiny_models, tmp_path):
    run = four_photos(OBJECTIVES[objective], tiny_models, tmp_path)
    assert run.training.objective.prediction == objective
    latents = photos_as_latents(run)
    before = distance(run, latents)
    losses = []
    hooks = replace(silent_hooks(lambda: False), on_step=lambda report: losses.append(report.loss))
    assert train(run.training, step_batches(run.source, 0, 0), hooks) == "done"
    after = distance(run, latents)
    assert fmean(losses[-20:]) < 0.5 * fmean(losses[:20])
    assert after < 0.2 * before


def four_photos(family: str, models, folder: Path) -> Run:
    project = make_project(folder / "project", models[family], family=family, num_photos=0)
    for photo in sorted(PHOTOS.glob("*.jpg"))[:4]:
        for path in (photo, photo.with_suffix(".txt")):
            make_old(Path(shutil.copy(path, project.photos)))
    settings = (
        "concepts.0.image.detail_crops.enabled=false",
        "data.aspect_ratio_bucketing=false",
        "train.method.kind=full",
        "model.output_format=diffusers",
        "model.output=out",
        "train.learning_rate=1e-2",
        f"train.max_steps={STEPS}",
        "train.batch_size=4",
    )
    version = project.prepare(*settings).version
    spec = make_spec(folder / "run", project.config(*settings), version)
    return prepare_run(spec, open_store(spec.store), torch.device("cpu"), rank=0)


def photos_as_latents(run: Run) -> torch.Tensor:
    refs = [latent_ref(item) for item in run.source.rows.items.to_pylist()]
    stored = torch.stack([item["latent"] for item in run.source.reader.read_many(refs)])
    return scale_latents(run.training.latent_facts, stored)


def distance(run: Run, latents: torch.Tensor) -> float:
    """Mean squared distance of a sample to the photo that is nearest to it."""
    prompts = run.source.rows.items["prompts"].to_pylist()
    with weights_in_use(run.training):
        pipeline = stock_pipeline(run)
        pipeline.set_progress_bar_config(disable=True)
        run.training.forward.eval()
        found = []
        for seed, (prompt, *_) in enumerate(prompts[:2]):
            with torch.no_grad():
                image = pipeline(
                    prompt,
                    num_inference_steps=8,
                    guidance_scale=1.0,
                    width=latents.shape[3] * run.training.family.latent_factor,
                    height=latents.shape[2] * run.training.family.latent_factor,
                    output_type="latent",
                    generator=torch.Generator().manual_seed(seed),
                ).images[0]
            found.append(min((image - one).square().mean().item() for one in latents))
        run.training.forward.train()
    return fmean(found)
