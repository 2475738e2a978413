"""Random latents and texts in a store: what training reads, without photos or models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from storage.digest import digest
from storage.index import read_index, stage_path
from storage.reading import ItemReader
from storage.records import DATASET, LOCATION
from storage.shards import ShardWriter
from storage.store import Store
from storage.versions import Version, commit_version
from tasks.epochs.entries import OrderSettings
from tasks.train.assemble import Draws, Source
from tasks.train.rows import load_rows

STAGE_ID = "0" * 32
NUM_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Of one row."""

    latent: tuple[int, int, int]
    """(C, h, w); stored in float32."""
    texts: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Text encoder to field to its shape; stored in bfloat16."""


def make_source(
    store: Store,
    family: str,
    shapes: Shapes,
    draws: Draws,
    *,
    batch_size: int,
    device: torch.device,
) -> Source:
    """What `step_batches` makes steps of `batch_size` random rows of, to train on a device."""
    version = write_dataset(store, family, shapes)
    return Source(
        rows=load_rows(store, version),
        reader=ItemReader(store),
        order=OrderSettings(
            content_digest=version.content_digest, seed=0, batch_size=batch_size, step_size=1
        ),
        draws=draws,
        cached_encoders=tuple(shapes.texts),
        pins=device.type == "cuda",
    )


def write_dataset(store: Store, family: str, shapes: Shapes) -> Version:
    """A version of NUM_ROWS rows with one prompt each."""
    torch.manual_seed(0)
    latents = write_items(
        store,
        "latents",
        {f"{n}": {"latent": torch.randn(shapes.latent)} for n in range(NUM_ROWS)},
    )
    texts = write_items(store, "text", dict(random_texts(shapes)))
    places = {
        name: [{"prompt": 0, "encoder": one} | texts[f"{name}.{one}"] for one in shapes.texts]
        for name in ("empty", *map(str, range(NUM_ROWS)))
    }
    rows = [
        row(number, shapes.latent)
        | {f"latent_{name}": value for name, value in latents[f"{number}"].items()}
        | {"texts": places[f"{number}"]}
        for number in range(NUM_ROWS)
    ]
    version, _ = commit_version(
        store,
        "benchmark",
        pa.Table.from_pylist(rows, schema=DATASET),
        stages={},
        config={},
        extra={"unconditional": places["empty"], "family": family, "latents": {}},
    )
    return version


def random_texts(shapes: Shapes) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """(name, fields) of every row's text, and of the empty one, by each encoder."""
    for name in ("empty", *map(str, range(NUM_ROWS))):
        for encoder, fields in shapes.texts.items():
            yield (
                f"{name}.{encoder}",
                {field: torch.randn(shape).bfloat16() for field, shape in fields.items()},
            )


def write_items(
    store: Store, stage: str, items: Mapping[str, dict[str, torch.Tensor]]
) -> dict[str, dict[str, Any]]:
    """Writes items to shards; gives where each of them is, by name."""
    with ShardWriter(store, stage, STAGE_ID) as writer:
        for name, tensors in items.items():
            writer.add(digest("benchmark/1", stage, name), tensors)
    found = {line["key"]: line for line in read_index(store, stage, STAGE_ID).to_pylist()}
    places = {}
    for name in items:
        line = found[digest("benchmark/1", stage, name)]
        places[name] = {"stage": stage_path(stage, STAGE_ID)} | {key: line[key] for key in LOCATION}
    return places


def row(number: int, latent: tuple[int, int, int]) -> dict[str, Any]:
    """The columns of a photo of exactly the size that it trains at."""
    height, width = (8 * cells for cells in latent[1:])
    key = digest("benchmark/1", "row", number)
    sides = ("", "resized_", "bucket_", "original_")
    return {
        **{f"{side}width": width for side in sides},
        **{f"{side}height": height for side in sides},
        **dict.fromkeys(("row_id", "sample_id", "source_id", "view_id"), key),
        **dict.fromkeys(("left", "top", "crop_left", "crop_top", "resolution_index"), 0),
        "variation": 0,
        "concept": "benchmark",
        "path": f"{number:02}.jpg",
        "kind": "full",
        "scale": 1.0,
        "split": "train",
        "prompts": [f"prompt {number}"],
        "prompt_origin": "sidecar",
        "loss_weight": 1.0,
        "repeats": 1.0,
    }
