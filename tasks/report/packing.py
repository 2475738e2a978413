"""What the page carries for its script, and the one rule of its size.

The rule: a page has at most PAGE_BYTES. The facts and prompts of all sources are always in it. The
tile grids may take GRID_SHARE of the rest; where they would take more, the page first leaves out
the values of augmentations, then the measures of kept tiles, then the grids of the sources at the
end. Pictures share what is left: as stored if they fit, else smaller (`pictures.EDGES`).

Numbers and texts travel as deflated JSON in base64, which no markup can break out of.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.report.facts import Facts
from tasks.report.inputs import KINDS, Sources
from tasks.report.pictures import fit_pictures
from tasks.report.prompts import Prompts
from tasks.report.views import PART_SOURCES, Grids, parts

PAGE_BYTES = 30_000_000
GRID_SHARE = 0.6
_PER_BLOCK = 100
"""Bytes of markup around a data block, and more."""
_LEVELS = (
    {"measures": True, "values": True},
    {"measures": True, "values": False},
    {"measures": False, "values": False},
)


@dataclass(frozen=True, slots=True)
class Packed:
    """The texts of the page's data blocks."""

    facts: str
    grids: list[str]
    """Per PART_SOURCES sources; empty where there was no room."""
    pictures: list[str]
    """Per PART_SOURCES sources: base64 pictures with spaces between."""
    num_pictured: int
    num_without_grids: int
    """Sources whose grids had no room."""


def pack(value: Any) -> str:
    """A JSON value as base64 of its deflated text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 6)).decode("ascii")


def pack_sources(
    facts: str, grids: Grids, thumbnails: Sequence[bytes | None], order: Sequence[int], budget: int
) -> Packed:
    """All data blocks, by the rule of the page's size.

    Args:
        facts: The packed facts of the sources.
        grids: Their tile grids.
        thumbnails: Per source, its stored JPEG; None for none.
        order: The sources in the order in which they are given pictures.
        budget: Bytes for all blocks.
    """
    num_parts = -(-len(thumbnails) // PART_SOURCES)
    left = budget - len(facts) - _PER_BLOCK * (2 * num_parts + 1)
    packed = _fit_grids(grids, len(thumbnails), int(left * GRID_SHARE))
    left -= sum(map(len, packed))
    ordered = fit_pictures([thumbnails[number] for number in order], max(0, left))
    texts = [""] * len(thumbnails)
    for number, text in zip(order, ordered, strict=True):
        texts[number] = text
    return Packed(
        facts=facts,
        grids=packed,
        pictures=[
            " ".join(texts[start : start + PART_SOURCES])
            for start in range(0, len(texts), PART_SOURCES)
        ],
        num_pictured=sum(map(bool, texts)),
        num_without_grids=sum(
            min(PART_SOURCES, len(texts) - number * PART_SOURCES)
            for number, part in enumerate(packed)
            if not part
        ),
    )


def source_values(
    sources: Sources,
    facts: Facts,
    prompts: Prompts,
    scales: Sequence[float],
    without: Mapping[int, list[Any]],
) -> dict[str, Any]:
    """The JSON value that the page's script lists, filters and searches."""
    uses = prompts.uses
    return {
        "kinds": KINDS,
        "scales": list(scales),
        "partSources": PART_SOURCES,
        "concepts": sources.concepts,
        "concept": sources.concept.tolist(),
        "path": sources.paths,
        "width": facts.width.tolist(),
        "height": facts.height.tolist(),
        "format": facts.format,
        "samples": facts.samples.tolist(),
        "kept": facts.kept.tolist(),
        "dropped": facts.dropped.tolist(),
        "factor": [round(factor, 3) for factor in facts.factor.tolist()],
        "sampleKinds": facts.kinds.tolist(),
        "marks": facts.marks.tolist(),
        "notes": facts.notes,
        "without": without,
        "sets": prompts.sets,
        "hidden": prompts.hidden.tolist(),
        "uses": {name: uses[name].to_pylist() for name in uses.column_names},
    }


def _fit_grids(grids: Grids, num_sources: int, budget: int) -> list[str]:
    for level in _LEVELS:
        packed = [pack(part) for part in parts(grids, num_sources, **level)]
        if sum(map(len, packed)) <= budget:
            return packed
    kept = []
    for text in packed:
        budget -= len(text)
        kept.append(text if budget >= 0 else "")
    return kept
