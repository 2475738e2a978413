"""Resolution, buckets, caching and masks: what OneTrainer says of the data beside the concepts."""

import re
from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.rows import (
    Answer,
    Put,
    Row,
    Table,
    View,
    later,
    same,
    taken,
    unlike,
    unneeded,
)

EXACT = re.compile(r"(\d+)\s*[xX]\s*(\d+)")


def resolution_text(value: Any, multiple: int) -> tuple[str, str]:
    """(our resolution, a note if it differs) of `512`, `512, 768` or `832x1216`.

    OneTrainer rounds bucket sides itself and takes any number; here a size that is no multiple is
    an error, so it is rounded now.

    Raises:
        ValueError: it is none of these.
    """
    text = str(value).strip()
    if match := EXACT.fullmatch(text):
        sides = [_rounded(int(side), multiple) for side in match.groups()]
        ours = "x".join(map(str, sides))
    else:
        sizes = [_rounded(int(part), multiple) for part in text.split(",")]
        ours = ",".join(map(str, dict.fromkeys(sizes)))
    spaceless = re.sub(r"\s", "", text).lower()
    return ours, "" if ours == spaceless else f"was {text}; a multiple of {multiple} is needed"


def first_edge(resolution: str) -> int:
    """The short side of the first resolution of a setting, which scales of tiles multiply."""
    return min(int(side) for side in resolution.split(",")[0].split("x"))


def _rounded(side: int, multiple: int) -> int:
    if side < 1:
        raise ValueError("a resolution must be larger than 0")
    return max(multiple, round(side / multiple) * multiple)


def _resolution(value: Any, view: View) -> Iterable[Answer]:
    ours, note = resolution_text(value, view.facts["multiple"])
    if "," in ours and not note:
        note = "each image at each size; epochs take turns, where OneTrainer draws once"
    return [Put("data.resolution", ours, note)]


DATA: Table = {
    "concept_file_name": taken("training_concepts/concepts.json"),
    "concepts": taken(),
    "resolution": Row("512", _resolution),
    "aspect_ratio_bucketing": same("data.aspect_ratio_bucketing", True),
    "latent_caching": same("data.latent_caching", True),
    "text_caching": unlike(True, "text is always encoded once and kept"),
    "clear_cache_before_training": unneeded(
        True, "the cache knows what changed, and only that is made anew", quiet=(False,)
    ),
    "cache_dir": unneeded("workspace-cache/run", "all caches are in the store (store.url)"),
    "dataloader_threads": unneeded(2, "one thread per core; data.threads sets another number"),
    "prefetch_next_batch": unneeded(True, "batches are always read ahead"),
    "only_cache": unlike(False, "run `tilewright prepare` instead of `tilewright run`"),
    "frames": later("25", "this version trains on images, not on video"),
    "custom_conditioning_image": later(False, "conditioning images (-condlabel) are not read"),
}
