"""The sample images of a run as a grid: a row for each prompt, a column for each step."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from tasks.imaging.header import FORMAT_ERRORS

QUALITY = 60
"""Of WebP."""


GAP = 4
"""Pixels between the pictures of a strip."""
Images = Mapping[int, Mapping[int, Path]]
"""By step and by number of the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a grid may be."""

    edge: int
    """Pixels of a picture's long side."""
    columns: int
    """Steps, evenly spread where there are more; at least 2."""
    rows: int
    """Prompts; the first ones where there are more."""


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


def sample_grid(images: Images, prompts: Sequence[str], limits: Limits) -> SampleGrid:
    """Every image as a small picture of its own; the first and the newest step have a column.

    Args:
        images: by step and by number of the prompt.
        prompts: of the run as it is configured now.
        limits: of the grid.
    """

    def apart(small: Sequence[Image.Image | None]) -> list[Picture | None]:
        return [None if one is None else _picture(one) for one in small]

    return _grid(images, prompts, limits, apart)


def sample_strips(images: Images, prompts: Sequence[str], limits: Limits) -> SampleGrid:
    """The same, with all images of a prompt side by side as one picture.

    On pages that squeeze wide tables, as those of Prefect, they keep their size.
    """

    def strip(small: Sequence[Image.Image | None]) -> list[Picture | None]:
        there = [one for one in small if one is not None]
        if not there:
            return [None]
        cell = max(one.width for one in there) + GAP
        whole = Image.new("RGBA", (cell * len(small) - GAP, max(one.height for one in there)))
        for column, one in enumerate(small):
            if one is not None:
                whole.paste(one, (cell * column, 0))
        return [_picture(whole)]

    return _grid(images, prompts, limits, strip)


def _grid(
    images: Images,
    prompts: Sequence[str],
    limits: Limits,
    pictures: Callable[[Sequence[Image.Image | None]], list[Picture | None]],
) -> SampleGrid:
    steps = _spread(sorted(images), limits.columns)
    numbers = sorted({number for step in images for number in images[step]})
    return SampleGrid(
        steps=steps,
        rows=[
            SampleRow(
                prompt=prompts[number] if number < len(prompts) else "",
                pictures=pictures(
                    [_small(images[step].get(number), limits.edge) for step in steps]
                ),
            )
            for number in numbers[: limits.rows]
        ],
        num_steps=len(images),
        num_prompts=len(numbers),
    )


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """The first, the newest, and as many as there is room for between them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def _small(path: Path | None, edge: int) -> Image.Image | None:
    """None for what is not there, or cannot be read: it may just be being written."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except FORMAT_ERRORS:
        return None
    small.thumbnail((edge, edge), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return small


def _picture(image: Image.Image) -> Picture:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY)
    text = base64.b64encode(out.getvalue()).decode("ascii")
    uri = Markup("data:image/webp;base64,") + Markup(text)
    return Picture(uri=uri, width=image.width, height=image.height)
