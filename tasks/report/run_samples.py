"""The sample images of a run as a grid: a row for each prompt, a column for each step."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from tasks.imaging.header import FORMAT_ERRORS

QUALITY = 60
"""Of WebP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A small picture that a page holds itself."""

    uri: Markup
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """The images of one prompt."""

    prompt: str
    pictures: Sequence[Picture | None]
    """By column; None where there is no image that can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleGrid:
    """Images of a few steps and prompts."""

    steps: Sequence[int]
    rows: Sequence[SampleRow]
    num_steps: int
    """With those for which there was no column."""
    num_prompts: int


def sample_grid(
    images: Mapping[int, Mapping[int, Path]],
    prompts: Sequence[str],
    *,
    edge: int,
    columns: int,
    rows: int,
) -> SampleGrid:
    """The grid, of small pictures; the first and the newest step always have a column.

    Args:
        images: by step and by number of the prompt.
        prompts: of the run as it is configured now.
        edge: pixels of a picture's long side.
        columns: at most; where there are more steps, they are evenly spread.
        rows: at most; the first prompts.
    """
    steps = _spread(sorted(images), columns)
    numbers = sorted({number for step in images for number in images[step]})
    return SampleGrid(
        steps=steps,
        rows=[
            SampleRow(
                prompt=prompts[number] if number < len(prompts) else "",
                pictures=[_picture(images[step].get(number), edge) for step in steps],
            )
            for number in numbers[:rows]
        ],
        num_steps=len(images),
        num_prompts=len(numbers),
    )


def _spread(steps: Sequence[int], most: int) -> list[int]:
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def _picture(path: Path | None, edge: int) -> Picture | None:
    """None for what is not there, or is just being written."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except FORMAT_ERRORS:
        return None
    small.thumbnail((edge, edge), Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY)
    text = base64.b64encode(out.getvalue()).decode("ascii")
    uri = Markup("data:image/webp;base64,") + Markup(text)
    return Picture(uri=uri, width=small.width, height=small.height)
