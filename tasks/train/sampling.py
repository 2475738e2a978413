"""Sample images of a model in training: its live denoiser in an otherwise fresh pipeline."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.models import Config
from tasks.families.loading import load_component
from tasks.families.sources import PIPELINE_FILE
from tasks.imaging.buckets import parse_resolutions
from tasks.sample.draw import draw_images, save_images
from tasks.train.setup import Run

if TYPE_CHECKING:
    from PIL.Image import Image

_NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")


def draw_samples(run: Run, folder: Path, should_stop: Callable[[], bool]) -> "list[Image]":
    """Draws one image per configured prompt into `folder`; fewer when asked to stop meanwhile.

    Text encoders and VAE are in memory only during this call.
    """
    settings = run.spec.config.train.sample
    width, height = _size(run.spec.config)
    pipeline = _pipeline(run)
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


def _pipeline(run: Run) -> Any:
    """The family's pipeline around the denoiser in training, all in the denoiser's dtype."""
    import diffusers

    training = run.training
    index = json.loads((run.model.folder / PIPELINE_FILE).read_text(encoding="utf-8"))
    names = [name for name, kind in index.items() if isinstance(kind, list) and kind[1]]
    dtype = _base_dtype(run)
    parts = {
        name: load_component(run.model, training.family, name, dtype, training.device)
        for name in names
        if name not in (*_NOT_NEEDED, training.family.denoiser)
    }
    pipeline_class = getattr(diffusers, training.family.pipeline)
    return pipeline_class.from_pretrained(
        run.model.folder,
        local_files_only=True,
        dtype=dtype,
        **parts,
        **{training.family.denoiser: training.denoiser},
        **{name: None for name in _NOT_NEEDED if name in index},
    )


def _base_dtype(run: Run) -> Any:
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
