"""What dataset versions need of a store: files by name, items by where they lie and by key.

A version names its table, its manifests and the shards of its rows. Beyond that the items behind
the keys of its manifests are needed, so that preparing the same again makes nothing again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import NotFoundError
from storage.index import read_index
from storage.records import K
from storage.store import Store
from storage.tables import get_table
from storage.versions import Version, read_rows

_ROW_COLUMNS = ("latent_shard", "mask_shard", "texts")
_NO_KEYS = pa.array([], K)


@dataclass(frozen=True, slots=True)
class Reachable:
    """What a set of versions needs."""

    paths: set[str] = field(default_factory=set)
    """Tables and manifests."""
    segments: set[str] = field(default_factory=set)
    """Names of shards and index segments that rows or manifests point to."""
    keys: dict[str, pa.Array] = field(default_factory=dict)
    """The wanted items of each stage."""


def reachable(store: Store, versions: Iterable[Version]) -> Reachable:
    """Collects what versions need.

    Raises:
        CorruptError: a table of a version is damaged, so what it needs is not known.
    """
    found = Reachable()
    keys: dict[str, list[pa.Array]] = {}
    for version in versions:
        found.paths.add(version.meta["table"])
        found.segments.update(_segments_of(read_rows(store, version, _ROW_COLUMNS)))
        found.segments.update(_named(version.meta["extra"]))
        for stage, facts in version.meta["stages"].items():
            paths = {facts[name] for name in ("manifest", "rejects") if facts.get(name)}
            if facts.get("manifest") in paths - found.paths:
                _add_manifest(store, facts["manifest"], found, keys.setdefault(stage, []))
            found.paths.update(paths)
    for stage, parts in keys.items():
        found.keys[stage] = pc.unique(pa.concat_arrays([_NO_KEYS, *parts]))
    return found


def needed_segments(
    store: Store, stage: str, stage_id: str, found: Reachable, *, keep_written: bool = False
) -> set[str]:
    """Names the segments of a stage that versions need.

    Args:
        store: the store.
        stage: the stage's name.
        stage_id: which of its folders.
        found: what the versions need.
        keep_written: every text that a person wrote is needed too (captions).
    """
    columns = ["key", "shard", "origin"] if keep_written else ["key", "shard"]
    index = read_index(store, stage, stage_id, columns)
    needed = pc.is_in(index["key"], found.keys.get(stage, _NO_KEYS))
    if keep_written:
        needed = pc.or_(needed, pc.not_equal(index["origin"], "generated"))
    return found.segments | set(_distinct(index.filter(needed)["shard"]))


def _add_manifest(store: Store, path: str, found: Reachable, keys: list[pa.Array]) -> None:
    try:
        manifest = get_table(store, path)
    except NotFoundError:
        return  # only what a plan compares with is lost, and was before
    found.segments.update(_segments_of(manifest))
    if "key" in manifest.column_names and manifest["key"].type == K:
        keys.append(manifest["key"].combine_chunks())


def _segments_of(table: pa.Table) -> set[str]:
    """The shards that a table's columns point to."""
    names: set[str] = set()
    for column in table.column_names:
        if column == "texts":
            names.update(_distinct(pc.struct_field(pc.list_flatten(table[column]), "shard")))
        elif column == "shard" or column.endswith("_shard"):
            names.update(_distinct(table[column]))
    return names


def _distinct(column: pa.ChunkedArray | pa.Array) -> list[str]:
    return [name for name in pc.unique(column.cast(pa.string())).to_pylist() if name]


def _named(facts: Any) -> Iterator[str]:
    """Every `shard` in the JSON of a version."""
    if isinstance(facts, dict):
        if isinstance(facts.get("shard"), str):
            yield facts["shard"]
        facts = list(facts.values())
    if isinstance(facts, list):
        for one in facts:
            yield from _named(one)
