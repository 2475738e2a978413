"""A small dataset version of random latents and texts, made with the storage API alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.digest import digest
from storage.index import read_index, stage_path
from storage.records import DATASET
from storage.shards import ShardWriter
from storage.store import Store
from storage.versions import Version, commit_version
from tasks.config.models import Config
from tasks.train.spec import TrainSpec

STAGE_ID = "0" * 32
TEXT_WIDTH = 32
NUM_TOKENS = 77


def make_dataset(
    store: Store,
    buckets: Sequence[tuple[int, int]] = ((64, 64),) * 8,
    *,
    poison: Sequence[int] = (),
    **columns: Sequence[Any],
) -> Version:
    """One row per bucket with a random latent and two random prompts of its own.

    `poison` names rows (by place in `buckets`) whose texts are NaN; `columns` replace columns.
    """
    random = np.random.default_rng(0)
    keys = [digest("synthetic/1", number) for number in range(len(buckets))]
    with ShardWriter(store, "latents", STAGE_ID) as writer:
        for key, (width, height) in zip(keys, buckets, strict=True):
            shape = (4, height // 8, width // 8)
            writer.add(key, {"latent": random.standard_normal(shape, np.float32)})
    with ShardWriter(store, "text", STAGE_ID) as writer:
        for name in ["empty", *(f"{n}.{p}" for n in range(len(buckets)) for p in range(2)), "nan"]:
            hidden = random.standard_normal((NUM_TOKENS, TEXT_WIDTH), np.float32)
            hidden = hidden * np.float32("nan") if name == "nan" else hidden
            writer.add(digest("text/1", name), {"hidden": hidden})
    latents, texts = _items(store, "latents"), _items(store, "text")
    rows = []
    for number, (key, (width, height)) in enumerate(zip(keys, buckets, strict=True)):
        row = _row(number, key, width, height) | _latent(latents[key])
        names = ["nan" if number in poison else f"{number}.{prompt}" for prompt in range(2)]
        row["texts"] = [_text(prompt, texts, name) for prompt, name in enumerate(names)]
        rows.append(row | {name: values[number] for name, values in columns.items()})
    version, _ = commit_version(
        store,
        "synthetic",
        pa.Table.from_pylist(rows, schema=DATASET),
        stages={},
        config={},
        extra={
            "unconditional": [_text(0, texts, "empty")],
            "family": "sd15",
            "latents": {"dtype": "float32", "mode": "mean"},
        },
    )
    return version


def make_config(model: Path, store: str, **train: Any) -> Config:
    """A configuration of a quick float32 LoRA on the CPU; `train` overrides `[train]`."""
    settings: dict[str, Any] = {
        "method": {"kind": "lora", "rank": 2, "alpha": 2.0},
        "batch_size": 2,
        "max_steps": 4,
        "train_dtype": "float32",
        "device": "cpu",
        "grace_seconds": 10,
        "learning_rate": 1e-2,
        "schedule": {"kind": "cosine", "warmup_steps": 1},
        "backup": {"every": 2, "keep": 3},
    }
    return Config.model_validate(
        {
            "store": {"url": store},
            "model": {"family": "sd15", "base": str(model), "output_dtype": "float32"},
            "data": {"name": "synthetic", "resolution": "64"},
            "concepts": [{"name": "c", "path": "unused"}],
            "train": settings | train,
        }
    )


def make_spec(workspace: Path, config: Config, version: Version, **changes: Any) -> TrainSpec:
    """A spec of a run in `workspace`."""
    facts: dict[str, Any] = {
        "config": config,
        "store": config.store.url,
        "dataset": version.name,
        "version": version.number,
        "run_id": workspace.name,
        "workspace": workspace,
    }
    return TrainSpec(**(facts | changes))


def _items(store: Store, stage: str) -> dict[bytes, dict[str, Any]]:
    base = stage_path(stage, STAGE_ID)
    rows = read_index(store, stage, STAGE_ID).to_pylist()
    return {row["key"]: {**row, "stage": base} for row in rows}


def _row(number: int, key: bytes, width: int, height: int) -> dict[str, Any]:
    sizes = dict.fromkeys(("width", "resized_width", "bucket_width", "original_width"), width)
    sizes |= dict.fromkeys(("height", "resized_height", "bucket_height", "original_height"), height)
    return sizes | {
        "row_id": digest("row/1", key),
        "sample_id": key,
        "source_id": digest("source/1", key),
        "view_id": key,
        "concept": "c",
        "path": f"photos/{number:02}.jpg",
        "kind": "full",
        "scale": 1.0,
        "left": 0,
        "top": 0,
        "crop_left": 0,
        "crop_top": 0,
        "resolution_index": 0,
        "phase": None,
        "variation": 0,
        "split": "train",
        "prompts": [f"prompt {number}", f"other {number}"],
        "prompt_origin": "sidecar",
        "context": f"prompt {number}",
        "loss_weight": 1.0,
        "repeats": 1.0,
        "luma_std": 0.1,
        "edge_share": 0.1,
    }


def _latent(item: dict[str, Any]) -> dict[str, Any]:
    names = ("stage", "shard", "offset", "nbytes", "layout", "xxh3")
    return {f"latent_{name}": item[name] for name in names}


def _text(prompt: int, texts: dict[bytes, dict[str, Any]], name: str) -> dict[str, Any]:
    item = texts[digest("text/1", name)]
    names = ("stage", "shard", "offset", "nbytes", "layout", "xxh3")
    return {"prompt": prompt, "encoder": "text_encoder_1"} | {n: item[n] for n in names}
