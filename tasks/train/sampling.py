"""Sample images of a model in training: its live denoiser in an otherwise fresh pipeline."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.models import Config
from tasks.families.loading import load_component, load_pipeline
from tasks.imaging.buckets import parse_resolutions
from tasks.sample.draw import draw_images, save_images
from tasks.train.setup import Run
from tasks.train.state import weights_in_use

if TYPE_CHECKING:
    from PIL.Image import Image


def draw_samples(run: Run, folder: Path, should_stop: Callable[[], bool]) -> "list[Image]":
    """Draws one image per configured prompt into `folder`; fewer when asked to stop meanwhile.

    Text encoders and VAE that training does not need are in memory only during this call.
    """
    settings = run.spec.config.train.sample
    width, height = _size(run.spec.config)
    with weights_in_use(run.training):
        pipeline = stock_pipeline(run)
        images: list[Image] = []
        for number, prompt in enumerate(settings.prompts):
            if should_stop():
                break
            images += draw_images(
                pipeline,
                [run.training.forward.spell_out(prompt)],
                seed=settings.seed + number,
                steps=settings.steps,
                guidance=settings.guidance,
                width=width,
                height=height,
                negative=settings.negative_prompt,
                call=run.training.family.sampling,
            )
    save_images(images, settings.prompts[: len(images)], folder)
    del pipeline
    _free_memory()
    return images


def stock_pipeline(run: Run) -> Any:
    """The stock pipeline around the modules that run in training.

    A pipeline has one data type for all its parts: that of the denoiser's frozen weights.
    """
    forward, family = run.training.forward, run.training.family
    given = {family.denoiser: forward.denoiser}
    for name, live in forward.live.items():
        given |= {
            live.encoder.model: forward.encoders[name],
            live.encoder.tokenizer: live.tokenizer,
        }
    dtype = next(forward.denoiser.parameters()).dtype
    if changes := run.training.objective.sampler_changes:
        scheduler = load_component(run.model, family, "scheduler", dtype)
        given["scheduler"] = type(scheduler).from_config(scheduler.config, **changes)
    return load_pipeline(run.model, family, dtype, run.training.device, given=given)


def _size(config: Config) -> tuple[int, int]:
    settings = config.train.sample
    first = parse_resolutions(config.data.resolution)[0]
    return settings.width or first.width, settings.height or first.height


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
