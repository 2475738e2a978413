"""Numbered, immutable dataset versions: one linear history per name.

A version exists once its JSON exists. Its table, named by content, is stored before, so a kill
between the two leaves an unused table and no version. Numbers are taken by exclusive creation:
who loses the race looks at what the winner wrote and takes the next number.
"""

import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import canonical_json, digest, hexkey
from storage.errors import CorruptError, NotFoundError, StorageError
from storage.fingerprint import table_digest
from storage.naming import checked_word, new_name, now_iso
from storage.records import DATASET, LOCATION
from storage.store import Store
from storage.tables import get_table, put_table_at, table_path

_FOLDER = "datasets"
_NUMBER = re.compile(r"(\d{6,})\.json")
_ATTEMPTS = 200
# Where something lies and what was measured on the way change neither order nor training. The
# checksum of a mask does: it is all that a row says of what is in it.
_PHYSICAL = {"path", "luma_std", "edge_share"} | {
    f"{item}_{name}" for item in ("latent", "mask") for name in LOCATION
} - {"mask_xxh3"}
_LOGICAL_TEXT = ("prompt", "encoder", "stage")


@dataclass(frozen=True)
class Version:
    """One version of a dataset; `meta` is its JSON."""

    name: str
    number: int
    uri: str
    content_digest: str
    num_samples: int
    meta: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Give the facts that the `--json` summaries of commands print."""
        return {
            "name": self.name,
            "version": self.number,
            "uri": self.uri,
            "num_samples": self.num_samples,
        }


def commit_version(
    store: Store,
    name: str,
    table: pa.Table,
    *,
    stages: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> tuple[Version, bool]:
    """Add a version on top of the latest, unless it would equal it wholly.

    Args:
        store: the store.
        name: the dataset's name.
        table: the rows (schema DATASET, any order, one row per `row_id`).
        stages: facts about the stages that made it, by stage.
        config: the data settings, as JSON.
        extra: anything else training needs to know.

    Returns:
        The version, and whether it is new.

    Raises:
        ValueError: columns are missing or unknown, or two rows share a `row_id`.
    """
    table = _sorted_rows(table)
    meta = {
        "format": 1,
        "name": checked_word("dataset name", name),
        "commit_uuid": new_name(),
        "content_digest": content_digest(table),
        "num_rows": len(table),
        "num_samples": len(table) - _count(table, "validation"),
        "table": table_path(f"{_FOLDER}/{name}", table),
        "stages": {stage: dict(facts) for stage, facts in stages.items()},
        "config": dict(config),
        "extra": dict(extra),
    }
    for attempt in range(_ATTEMPTS):
        latest = latest_version(store, name)
        if latest is not None and _facts(latest.meta) == _facts(meta):
            return latest, False
        put_table_at(store, str(meta["table"]), table)
        number = latest.number + 1 if latest else 1
        parent = latest.number if latest else None
        document = {**meta, "number": number, "parent": parent, "created_at": now_iso()}
        if _create(store, name, document):
            return get_version(store, name, number), True
        time.sleep(random.uniform(0, min(0.5, 0.002 * 2 ** min(attempt, 8))))
    raise StorageError(f"dataset {name!r}: {_ATTEMPTS} other runs were faster, one after another")


def latest_version(store: Store, name: str) -> Version | None:
    """Find the newest version, None where there is none.

    Raises:
        CorruptError: its JSON is damaged.
    """
    numbers = _numbers(store, name)
    return get_version(store, name, numbers[-1]) if numbers else None


def get_version(store: Store, name: str, number: int) -> Version:
    """Read one version.

    Raises:
        NotFoundError: there is no such version; says which there are.
        CorruptError: its JSON is damaged.
    """
    path = _json_path(name, number)
    try:
        data = store.read_bytes(path)
    except NotFoundError as error:
        known = ", ".join(map(str, _numbers(store, name)[-10:])) or "none"
        raise NotFoundError(f"dataset {name!r} has no version {number}; newest: {known}") from error
    uri = store.uri(path)
    try:
        meta = json.loads(data)
        return Version(
            name, number, uri, str(meta["content_digest"]), int(meta["num_samples"]), meta
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{uri} is damaged: {error}") from error


def list_versions(store: Store, name: str) -> list[Version]:
    """Read all versions, oldest first."""
    return [get_version(store, name, number) for number in _numbers(store, name)]


def read_rows(store: Store, version: Version, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the rows of a version, sorted by `row_id`.

    Columns that an older Tilewright did not write yet are null.

    Raises:
        CorruptError: the table is damaged or gone.
    """
    try:
        wanted = columns or DATASET.names
        return get_table(store, version.meta["table"], wanted, later=DATASET)
    except NotFoundError as error:
        raise CorruptError(f"{version.uri} names a table that is gone: {error}") from error


def content_digest(table: pa.Table) -> str:
    """Hash what training sees of the rows (32 hex digits), in the order of `row_id`.

    Paths, shard locations and measured numbers are left out, so a rename, a copy of the store or
    a compaction changes nothing; stage ids stay, so another VAE is another content.
    """
    table = _sorted_rows(table)
    logical = table.select([name for name in DATASET.names if name not in _PHYSICAL | {"texts"}])
    texts = table["texts"].combine_chunks()
    logical = logical.append_column("texts", pc.list_value_length(texts))
    items = texts.flatten()
    parts = pa.table({field: pc.struct_field(items, field) for field in _LOGICAL_TEXT})
    return hexkey(digest("content/1", table_digest(logical), table_digest(parts)))


def _sorted_rows(table: pa.Table) -> pa.Table:
    given, known = set(table.column_names), set(DATASET.names)
    if given != known:
        raise ValueError(
            f"a dataset table lacks columns {sorted(known - given)} "
            f"and has unknown columns {sorted(given - known)}"
        )
    table = table.select(DATASET.names).cast(DATASET)
    keys = table["row_id"]
    if keys.null_count or pc.count_distinct(keys).as_py() != len(table):
        raise ValueError("a dataset has one row per row_id: some are doubled or null")
    ascending = len(table) < 2 or pc.all(pc.less(keys[:-1], keys[1:])).as_py()
    return table if ascending else table.take(pc.sort_indices(keys))


def _count(table: pa.Table, split: str) -> int:
    return int(pc.sum(pc.equal(table["split"], split)).as_py() or 0)


def _facts(meta: Mapping[str, Any]) -> str:
    """What makes two versions wholly equal; manifests also hold file times, which do not count."""
    stages = {name: facts.get("stage_id", facts) for name, facts in meta["stages"].items()}
    return canonical_json([meta["table"], stages, meta["config"], meta["extra"]])


def _create(store: Store, name: str, document: Mapping[str, Any]) -> bool:
    path = _json_path(name, document["number"])
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    if store.put_if_absent(path, text.encode()):
        return True
    # A PUT whose answer was lost is sent again and then refused by its own first copy.
    winner = get_version(store, name, document["number"])
    return bool(winner.meta.get("commit_uuid") == document["commit_uuid"])


def _json_path(name: str, number: int) -> str:
    return f"{_FOLDER}/{checked_word('dataset name', name)}/{number:06}.json"


def _numbers(store: Store, name: str) -> list[int]:
    names = store.list(f"{_FOLDER}/{checked_word('dataset name', name)}")
    found = (_NUMBER.fullmatch(path.rsplit("/", 1)[-1]) for path in names)
    return sorted(int(match[1]) for match in found if match)
