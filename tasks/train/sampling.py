"""Sample images of a model in training: its live denoiser in an otherwise fresh pipeline."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.config.models import Config
from tasks.families.loading import load_pipeline
from tasks.imaging.buckets import parse_resolutions
from tasks.sample.draw import draw_images, save_images
from tasks.train.setup import Run

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


def draw_samples(run: Run, folder: Path, should_stop: Callable[[], bool]) -> "list[Image]":
    """Draws one image per configured prompt into `folder`; fewer when asked to stop meanwhile.

    Text encoders and VAE are in memory only during this call.
    """
    settings = run.spec.config.train.sample
    width, height = _size(run.spec.config)
    training = run.training
    dtype = _base_dtype(run)
    pipeline = load_pipeline(
        run.model, training.family, dtype, training.device, denoiser=training.denoiser
    )
    images: list[Image] = []
    for number, prompt in enumerate(settings.prompts):
        if should_stop():
            break
        images += draw_images(
            pipeline,
            [prompt],
            seed=settings.seed + number,
            steps=settings.steps,
            guidance=settings.guidance,
            width=width,
            height=height,
            negative=settings.negative_prompt,
        )
    save_images(images, settings.prompts[: len(images)], folder)
    del pipeline
    _free_memory()
    return images


def _base_dtype(run: Run) -> "torch.dtype":
    """The dtype of the untrained weights; a pipeline needs one for all its parts."""
    import torch

    frozen = run.training.method.frozen_dtype_is_train_dtype
    return run.training.precision.dtype if frozen else torch.float32


def _size(config: Config) -> tuple[int, int]:
    settings = config.train.sample
    first = parse_resolutions(config.data.resolution)[0]
    return settings.width or first.width, settings.height or first.height


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
