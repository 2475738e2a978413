"""The Prefect task that draws images with a finished model."""

import time
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.families.loading import load_pipeline, quiet_libraries
from tasks.sample.draw import add_lora, draw_images, save_images
from tasks.sample.target import find_target


@task(name="draw", task_run_name="draw", cache_policy=NO_CACHE, persist_result=False)
def draw(
    run_or_model: str,
    prompts: list[str],
    *,
    base: str | None,
    output: str | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Draws one image per prompt; gives where the files are."""
    import torch

    started = time.monotonic()
    target = find_target(run_or_model, base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    width, height = settings.pop("width") or target.size[0], settings.pop("height")
    with quiet_libraries():
        pipeline = load_pipeline(target.source, target.family, dtype, device)
        if target.lora is not None:
            add_lora(pipeline, target.family.denoiser, target.lora)
    images = draw_images(
        pipeline,
        prompts,
        width=width,
        height=height or target.size[1],
        call=target.family.sampling,
        **settings,
    )
    folder = Path(output) if output else _new_folder(target.folder)
    paths = save_images(images, prompts, folder)
    return {
        "model": str(run_or_model),
        "samples": [str(path.absolute()) for path in paths],
        "seconds": round(time.monotonic() - started, 3),
    }


def _new_folder(parent: Path) -> Path:
    """A folder of its own for every call, so that no earlier image is overwritten."""
    return parent / time.strftime("%Y%m%d-%H%M%S")
