"""Draw images with a pipeline: one per prompt, each from its own seed."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.methods import LoraMethod
from tasks.families.adapters import put_adapter

if TYPE_CHECKING:
    from PIL.Image import Image


def draw_images(  # noqa: PLR0913 (the settings of a sample, all by name)
    pipeline: Any,
    prompts: Sequence[str],
    *,
    seed: int,
    steps: int,
    guidance: float,
    width: int,
    height: int,
    negative: str = "",
    call: Mapping[str, Any] = {},
) -> "list[Image]":
    """One image per prompt, in order; image i starts from noise of seed + i, drawn on the CPU.

    Noise from the CPU and batches of one make an image independent of device and neighbours.
    `call` are arguments that the family's pipeline wants besides (`Family.sampling`).
    The modules of the pipeline are in eval mode meanwhile and go back to what they were.
    """
    import torch

    pipeline.set_progress_bar_config(disable=True)
    guided = _guidance(pipeline, guidance, negative)
    images = []
    with _evaluating(pipeline), torch.no_grad():
        for index, prompt in enumerate(prompts):
            result = pipeline(
                prompt=prompt,
                num_inference_steps=steps,
                **guided,
                **call,
                width=width,
                height=height,
                generator=torch.Generator("cpu").manual_seed(seed + index),
            )
            images.append(result.images[0])
    return images


def _guidance(pipeline: Any, guidance: float, negative: str) -> dict[str, Any]:
    """The arguments for guidance, as this pipeline calls them.

    Where a pipeline knows guidance that a model has learnt (FLUX.1 dev) and real classifier-free
    guidance, it is the former if the model has learnt it.
    """
    takes = inspect.signature(pipeline.__call__).parameters
    denoiser = getattr(pipeline, "transformer", None)
    learnt = denoiser is not None and getattr(denoiser.config, "guidance_embeds", False)
    is_real = "true_cfg_scale" in takes and not learnt
    guided: dict[str, Any] = {"true_cfg_scale" if is_real else "guidance_scale": guidance}
    return guided | ({"negative_prompt": negative} if "negative_prompt" in takes else {})


def add_lora(pipeline: Any, denoiser: str, file: Path) -> None:
    """Loads a LoRA file onto a pipeline; `denoiser` is the attribute of the denoiser."""
    from safetensors.torch import load_file

    if hasattr(pipeline, "load_lora_weights"):
        pipeline.load_lora_weights(file.parent, weight_name=file.name)
        return
    # PixArt's pipelines cannot. In diffusers' layout alpha is the rank.
    weights = {
        name.removeprefix(f"{denoiser}."): tensor for name, tensor in load_file(file).items()
    }
    rank = next(len(tensor) for name, tensor in weights.items() if ".lora_A." in name)
    put_adapter(getattr(pipeline, denoiser), LoraMethod(rank=rank, alpha=rank), weights)


def save_images(images: "Sequence[Image]", prompts: Sequence[str], folder: Path) -> list[Path]:
    """Write PNG files named by position and prompt: `00-a-harbour-at-dawn.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:40].strip("-")
        path = folder / (f"{index:02}-{slug}.png" if slug else f"{index:02}.png")
        image.save(path)
        paths.append(path)
    return paths


def save_grid(images: "Sequence[Image]", path: Path, columns: int = 4) -> Path:
    """All images on one PNG, row by row, `columns` per row."""
    from PIL import Image

    if not images:
        raise ValueError("`images` is empty: there is nothing to put on the grid")
    across = min(columns, len(images))
    rows = -(-len(images) // across)
    width = max(image.width for image in images)
    height = max(image.height for image in images)
    grid = Image.new("RGB", (across * width, rows * height))
    for index, image in enumerate(images):
        grid.paste(image, (index % across * width, index // across * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path)
    return path


@contextmanager
def _evaluating(pipeline: Any) -> Iterator[None]:
    import torch

    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    # Submodules have modes of their own (a frozen base under a training adapter).
    trained = [part for module in modules for part in module.modules() if part.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part in trained:
            part.training = True
