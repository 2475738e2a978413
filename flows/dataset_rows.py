"""`tilewright show`: the samples of a dataset version, one JSON object each."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from flows.command_outcome import refuse
from storage.errors import NotFoundError, StorageError
from storage.store import Store, open_store
from storage.versions import Version, get_version, latest_version, read_rows
from tasks.config.loading import load_config

REFERENCE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(@(?P<number>[0-9]+))?")
ROWS_AT_A_TIME = 1000
BY_PHOTO: list[tuple[str, Literal["ascending", "descending"]]] = [
    ("path", "ascending"),
    ("concept", "ascending"),
    ("kind", "descending"),
    *((key, "ascending") for key in ("scale", "bucket_width", "bucket_height")),
    *((key, "ascending") for key in ("phase", "top", "left", "variation")),
]
"""The order for people: photo by photo, the full image first."""


def find_version(config_or_store: str, dataset: str | None) -> tuple[Store, Version]:
    """The dataset version that `show` is asked for.

    Args:
        config_or_store: a TOML file, or the place of a store.
        dataset: `name` or `name@number`; default: the config's dataset, or the store's only one.

    Raises:
        ConfigError: there is no such store, dataset or version.
    """
    if config_or_store.endswith(".toml"):
        config = load_config(config_or_store, checks=False)
        store, name = existing_store(config.store.url), config.data.name
    else:
        store, name = existing_store(config_or_store), ""
    return store, named_version(store, dataset or name or _only_dataset(store))


def existing_store(url: str) -> Store:
    """Opens a store that is already there; ConfigError otherwise."""
    try:
        return open_store(url, create=False)
    except (StorageError, ValueError) as error:
        refuse("store.url", str(error), url)


def check_store(url: str, *, create: bool) -> None:
    """ConfigError when no store can be at a place; one that is not there yet is made or passed."""
    try:
        open_store(url, create=create)
    except NotFoundError as error:
        if create:
            refuse("store.url", str(error), url)
    except (StorageError, ValueError) as error:
        refuse("store.url", str(error), url)


def named_version(store: Store, reference: str) -> Version:
    """The version that `name` (the latest) or `name@number` means; ConfigError if there is none."""
    match = REFERENCE.fullmatch(reference)
    if match is None:
        refuse("--dataset", "must be NAME or NAME@NUMBER", reference)
    name, number = match["name"], match["number"]
    try:
        found = get_version(store, name, int(number)) if number else latest_version(store, name)
    except NotFoundError:
        found = None
    if found is None:
        there = ", ".join(dataset_names(store)) or "none yet; run `tilewright prepare`"
        refuse("--dataset", f"no such dataset version in {store.url}; datasets: {there}", reference)
    return found


def dataset_names(store: Store) -> list[str]:
    """The names of the datasets in a store."""
    parts = (Path(path).parts for path in store.list("datasets"))
    return sorted({part[1] for part in parts if len(part) > 2})


def _only_dataset(store: Store) -> str:
    names = dataset_names(store)
    if len(names) != 1:
        there = ", ".join(names) or "none yet; run `tilewright prepare`"
        refuse("--dataset", f"must name one of the store's datasets: {there}")
    return names[0]


def sample_rows(
    store: Store, version: Version, *, by_photo: bool = False
) -> Iterator[dict[str, Any]]:
    """The rows of a version, a thousand at a time; `by_photo` puts those of a photo together."""
    table = read_rows(store, version)
    for batch in (table.sort_by(BY_PHOTO) if by_photo else table).to_batches(
        max_chunksize=ROWS_AT_A_TIME
    ):
        yield from batch.to_pylist()


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """One manifest row as one sample of `show --jsonl`; what came later stands at the end."""
    return {
        **{key: row[key].hex() for key in ("row_id", "sample_id", "source_id")},
        **{key: row[key] for key in ("path", "concept", "kind")},
        "scale": _short(row["scale"]),
        "rect": [row["left"], row["top"], row["width"], row["height"]],
        "resized": [row["resized_width"], row["resized_height"]],
        "bucket": [row["bucket_width"], row["bucket_height"]],
        "epoch": row["phase"],
        **{key: row[key] for key in ("variation", "prompts", "prompt_origin", "context")},
        "loss_weight": _short(row["loss_weight"]),
        "repeats": _short(row["repeats"]),
        "latent": _item(row, "latent"),
        "text": [
            {
                "prompt": text["prompt"],
                "encoder": text["encoder"],
                **_place(text["stage"], text["shard"], text["offset"], text["nbytes"]),
            }
            for text in row["texts"]
        ],
        "split": row["split"],
        "augmentation": json.loads(row["augmentation"] or "{}"),
        **{key: row[key] for key in ("samples_per_epoch", "tiles_per_epoch")},
        "mask": _item(row, "mask"),
    }


def as_line(row: dict[str, Any]) -> str:
    """One manifest row for people: the sample, where its prompt comes from, and the prompt."""
    sample = [row["kind"]]
    if row["kind"] != "full":
        sample += [f"x{_short(row['scale']):g}", f"at {row['left']},{row['top']}"]
    sample.append(f"{row['bucket_width']}x{row['bucket_height']}")
    if row["phase"] is not None:
        sample.append(f"grid {row['phase'] + 1} of {row['num_phases']}")
    if row["variation"]:
        sample.append(f"variation {row['variation']}")
    if row["split"] != "train":
        sample.append(row["split"])
    more = len(row["prompts"]) - 1
    prompts = row["prompts"][0] + (f"  (or one of {more} more)" if more > 0 else "")
    return f"{row['path']}  {' '.join(sample)}  [{row['prompt_origin']}] {prompts}"


def _short(value: float) -> float:
    """A float32 as it was written: 1.1, not 1.100000023841858."""
    return round(value, 6)


def _item(row: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Where the latent or the mask of a row is; None when it has none."""
    facts = [row[f"{name}_{fact}"] for fact in ("stage", "shard", "offset", "nbytes")]
    return None if facts[0] is None else _place(*facts)


def _place(stage: str, shard: str, offset: int, nbytes: int) -> dict[str, Any]:
    """Where an item's bytes are; the shard as a path inside the store."""
    return {
        "shard": f"{stage}/shards/{shard}.safetensors",
        "offset": offset,
        "nbytes": nbytes,
    }
