"""Items, rows and processes that the storage tests share."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.digest import digest
from storage.index import read_index
from storage.reading import ItemRef
from storage.records import DATASET
from storage.shards import ShardWriter
from storage.store import Store

STAGE = ("latents", "abc123")


def key(number: int) -> bytes:
    return digest("test", number)


def latent(number: int) -> np.ndarray:
    """A tensor that says by its values which item it is."""
    return np.random.default_rng(number).standard_normal((4, 8, 8)).astype(np.float16)


def write_items(store: Store, numbers: range, **limits: Any) -> None:
    with ShardWriter(store, *STAGE, **limits) as writer:
        for number in numbers:
            writer.add(key(number), {"latent": latent(number)})


def refs(store: Store, table: pa.Table | None = None) -> dict[bytes, ItemRef]:
    """Where each committed item lies, by key."""
    rows = (read_index(store, *STAGE) if table is None else table).to_pylist()
    base = "/".join(("stages", *STAGE))
    return {
        row["key"]: ItemRef(
            base, row["shard"], row["offset"], row["nbytes"], row["layout"], row["xxh3"]
        )
        for row in rows
    }


def dataset(count: int, *, prompt: str = "a boat", shard: str = "s0", first: int = 0) -> pa.Table:
    """Rows as the dataset stage writes them, not sorted."""
    rows = [_row(number, prompt, shard) for number in range(first, first + count)]
    return pa.Table.from_pylist(rows, schema=DATASET)


def python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process that can import the project."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _row(number: int, prompt: str, shard: str) -> dict[str, Any]:
    text = {"prompt": 0, "encoder": "text_encoder_1", "stage": "stages/text/t1", "shard": shard}
    sizes = {
        field.name: 64
        for field in DATASET
        if pa.types.is_integer(field.type) and field.name != "phase"
    }
    return {
        **sizes,
        "row_id": digest("row", number),
        "sample_id": digest("sample", number),
        "source_id": digest("source", number // 2),
        "view_id": digest("view", number),
        "concept": "harbour",
        "path": f"photos/{number}.jpg",
        "kind": "detail",
        "scale": 2.0,
        "split": "train" if number % 5 else "validation",
        "prompts": [prompt, "zweite Zeile"],
        "prompt_origin": "sidecar",
        "context": prompt,
        "loss_weight": 1.0,
        "repeats": 1.0,
        "luma_std": 0.1,
        "edge_share": 0.2,
        "latent_stage": "stages/latents/l1",
        "latent_shard": shard,
        "latent_layout": "[]",
        "texts": [{**text, "offset": number, "nbytes": 8, "layout": "[]", "xxh3": 1}],
    }
