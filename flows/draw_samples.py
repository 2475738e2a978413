"""The flow that draws images with a run's model, or with any model."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.form import field
from tasks.sample.task import draw

Size = Annotated[int | None, Field(ge=8)]


@flow(name="draw-samples", persist_result=False)
def draw_samples(
    run_or_model: Annotated[
        str,
        field(
            "Run or model", "A run's folder, a model, a backup, or a LoRA file (then also base)."
        ),
    ],
    prompts: Annotated[str, field("Prompts", "One per line; each gives an image.")],
    base: Annotated[str, field("Base model", "Of a LoRA file; else empty.")] = "",
    output: Annotated[
        str, field("Folder", "For the images; empty: a new one in the run, or in ./samples.")
    ] = "",
    negative_prompt: Annotated[
        str, field("Negative prompt", "What the images should not show.")
    ] = "",
    seed: Annotated[int, field("Seed", "Of the first image; each further one adds one.")] = 42,
    steps: Annotated[int, Field(ge=1), field("Steps", "Denoising steps.")] = 20,
    guidance: Annotated[
        float, Field(ge=0), field("Guidance", "Classifier-free guidance scale.")
    ] = 7.0,
    width: Annotated[Size, field("Width", "Pixels; default: the training resolution.")] = None,
    height: Annotated[Size, field("Height", "Pixels; default: the training resolution.")] = None,
) -> dict[str, Any]:
    """Draw one image per line of `prompts`."""
    settings = {
        "negative": negative_prompt,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "width": width,
        "height": height,
    }
    lines = [line for line in prompts.splitlines() if line.strip()]
    result: dict[str, Any] = draw(
        run_or_model, lines, base=base or None, output=output or None, settings=settings
    )
    return result
