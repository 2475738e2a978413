"""Sample prompts: OneTrainer has settings for each of them, Tilewright one set for all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.onetrainer.concept_rows import SAMPLE
from tasks.onetrainer.paths import Paths
from tasks.onetrainer.rows import UNKNOWN, Left, Put, View, answers

SHARED = {
    "negative_prompt": "negative_prompt",
    "diffusion_steps": "steps",
    "cfg_scale": "guidance",
    "seed": "seed",
    "width": "width",
    "height": "height",
}
"""OneTrainer's setting of a sample to ours of all samples."""

Found = tuple[str, Any, Put | Left]
"""(key in the samples, its value, what becomes of it)"""


def convert_samples(
    samples: Sequence[Mapping[str, Any]], paths: Paths, cell: int
) -> Iterator[Found]:
    """What becomes of the prompts that are switched on; sides are multiples of a latent cell."""
    views = [View(sample, SAMPLE, paths) for sample in samples]
    drawn = {n: view for n, view in enumerate(views) if view["enabled"] and view["prompt"]}
    if not drawn:
        return
    prompts = [str(view["prompt"]) for view in drawn.values()]
    yield "samples.prompt", prompts, Put("train.sample.prompts", prompts)
    for theirs, ours in SHARED.items():
        yield from _shared(theirs, ours, [view[theirs] for view in drawn.values()], cell)
    for number, view in drawn.items():
        for key, row in SAMPLE.items():
            for answer in answers(row, view[key], view):
                yield f"samples.{number}.{key}", view[key], answer
        for key in view.given.keys() - SAMPLE.keys() - {"__version"}:
            yield f"samples.{number}.{key}", view.given[key], UNKNOWN


def _shared(theirs: str, ours: str, values: list[Any], cell: int) -> Iterator[Found]:
    """One setting of all prompts: the first one's value."""
    key, value = f"samples.{theirs}", values[0]
    put = Put(f"train.sample.{ours}", value)
    if ours in ("width", "height") and value % cell:
        whole = max(cell, round(value / cell) * cell)
        put = replace(put, value=whole, note=f"was {value}; a multiple of {cell} is needed")
    if len(set(map(str, values))) > 1:
        put = replace(put, note=put.note or "of the first prompt")
        yield key, values, Left("different", "all prompts share one value, that of the first")
    elif ours == "seed" and len(values) > 1:
        put = replace(put, note="of the first image; each further prompt adds one")
    yield key, value, put
