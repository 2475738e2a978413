"""The flow that draws images with a run's model, or with any model."""

from typing import Any

from prefect import flow

from tasks.sample.task import draw


@flow(name="draw-samples", persist_result=False)
def draw_samples(
    run_or_model: str,
    prompts: str,
    base: str | None = None,
    output: str | None = None,
    negative_prompt: str = "",
    seed: int = 42,
    steps: int = 20,
    guidance: float = 7.0,
    width: int | None = None,
    height: int | None = None,
) -> dict[str, Any]:
    """Draw one image per line of `prompts`.

    Args:
        run_or_model: A run's folder, a model, a backup, or a LoRA file (then also `base`).
        prompts: One prompt per line.
        base: The base model of a LoRA file.
        output: Folder for the images; default: a new one in the run, or in ./samples.
        negative_prompt: What the images should not show.
        seed: Seed of the first image; each further one adds one.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        width: Pixels; default: the training resolution.
        height: Pixels; default: the training resolution.
    """
    settings = {
        "negative": negative_prompt,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "width": width,
        "height": height,
    }
    lines = [line for line in prompts.splitlines() if line.strip()]
    result: dict[str, Any] = draw(run_or_model, lines, base=base, output=output, settings=settings)
    return result
