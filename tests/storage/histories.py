"""Small stores with a history of versions, for tests of garbage collection."""

import random
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from storage.digest import digest
from storage.index import read_index, write_stage_json
from storage.naming import shard_path, stage_path
from storage.reachable import reachable
from storage.records import CROPS, DATASET
from storage.shards import RecordWriter, ShardWriter
from storage.store import Store
from storage.tables import put_table
from storage.versions import Version, commit_version, list_versions, read_rows
from tests.storage.samples import dataset

LATENTS, CROPS_ID = "1" * 32, "2" * 32
NAME = "harbour"


def key(number: int) -> bytes:
    return digest("item", number)


def add_latents(store: Store, numbers: list[int], stage_id: str = LATENTS) -> None:
    """Commits items as one shard."""
    write_stage_json(store, "latents", stage_id, {"stage": "latents"})
    with ShardWriter(store, "latents", stage_id) as writer:
        for number in numbers:
            writer.add(key(number), {"latent": np.full((2, 2), number, np.float32)})


def add_crops(store: Store, numbers: list[int]) -> None:
    with RecordWriter(store, "crops", CROPS_ID, CROPS) as writer:
        for number in numbers:
            writer.add({"key": key(number), "luma_std": 0.5})


def located(store: Store, numbers: list[int], stage_id: str = LATENTS) -> pa.Table:
    """key, logical and where the items of a stage are."""
    index = read_index(store, "latents", stage_id)
    place = dict(zip(index["key"].to_pylist(), index["shard"].to_pylist(), strict=True))
    columns = {
        "key": pa.array([key(number) for number in numbers], pa.binary(16)),
        "logical": [str(number) for number in numbers],
        "latent_shard": [place[key(number)] for number in numbers],
    }
    return pa.table(columns)


def add_version(store: Store, numbers: list[int], stage_id: str = LATENTS) -> Version:
    """A version of items that are committed, with the manifests of two stages."""
    places = located(store, numbers, stage_id)
    rows = dataset(len(numbers))
    shards = places["latent_shard"].cast(pa.string())
    empty = pa.array([[]] * len(numbers), DATASET.field("texts").type)
    for column, values in (("latent_shard", shards), ("texts", empty)):
        rows = rows.set_column(rows.schema.get_field_index(column), column, values)
    stages = {
        "latents": {
            "stage_id": stage_id,
            "manifest": put_table(store, "stages/latents/manifests", places),
            "rejects": None,
        },
        "crops": {
            "stage_id": CROPS_ID,
            "manifest": put_table(store, "stages/crops/manifests", places.select(["key"])),
            "rejects": None,
        },
    }
    made, _ = commit_version(store, NAME, rows, stages=stages, config={}, extra={"of": numbers})
    return made


@dataclass
class History:
    """A store that grew by chance: some of its items are in no version any more."""

    store: Store
    turns: int
    seed: int
    versions: list[Version] = field(default_factory=list)

    def make(self) -> "History":
        draw, there = random.Random(self.seed), set[int]()
        for turn in range(self.turns):
            new = draw.sample(range(40), draw.randint(1, 8))
            again = draw.random() < 0.2  # as a refresh does: what is there is made anew
            add_latents(self.store, [n for n in new if again or n not in there] or new)
            add_crops(self.store, new)
            there.update(new)
            if draw.random() < 0.7 or turn == self.turns - 1:
                chosen = draw.sample(sorted(there), draw.randint(1, len(there)))
                # All but one turn in four forgets what was long ago, so that shards die.
                add_crops(self.store, chosen)
                self.versions.append(add_version(self.store, sorted(chosen[:4] + new)))
        return self


def require_whole(store: Store) -> None:
    """Fails where a version or a segment names something that is not there."""
    listing = store.list("")
    for version in list_versions(store, NAME):
        shards = read_rows(store, version, ["latent_shard"])["latent_shard"].to_pylist()
        for shard in shards:
            assert (
                shard_path(
                    stage_path("latents", version.meta["stages"]["latents"]["stage_id"]), shard
                )
                in listing
            ), (version.number, shard)
        for facts in version.meta["stages"].values():
            assert facts["manifest"] in listing, (version.number, facts)
        found = reachable(store, [version])
        for stage, stage_id in (("latents", None), ("crops", CROPS_ID)):
            stage_id = stage_id or version.meta["stages"]["latents"]["stage_id"]
            known = set(read_index(store, stage, stage_id, ["key"])["key"].to_pylist())
            assert set(found.keys[stage].to_pylist()) <= known, (version.number, stage)
    for path in listing:
        if path.startswith(f"stages/latents/{LATENTS}/index/"):
            shard = path.replace("/index/", "/shards/").replace(".parquet", ".safetensors")
            assert shard in listing, path
