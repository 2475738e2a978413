"""Garbage collection: which files of a store nobody needs, plans to delete them, and the deletion.

Only files that Tilewright itself names are ever looked at (`KINDS`). They go in an order in which
what names others goes first: a kill between any two deletions leaves a store where everything that
is named is there, and a few more files that the next collection finds.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain, groupby, islice

from storage.errors import CorruptError
from storage.local_files import sync_folder
from storage.naming import new_name
from storage.reachable import Reachable, needed_segments
from storage.store import Store

_HEX = "[0-9a-f]{32}"
_STAGE = "stages/(?P<stage>prompts|crops|captions|masks|text|latents)"
_ID = f"{_STAGE}/(?P<id>{_HEX})"
KINDS = {
    "version": re.compile(r"datasets/(?P<dataset>[^/]+)/(?P<number>[0-9]{6,})\.json"),
    "page": re.compile(r"datasets/(?P<dataset>[^/]+)/(?P<number>[0-9]{6,})\.(html|digest\.json)"),
    "rows": re.compile(rf"datasets/[^/]+/{_HEX}\.parquet"),
    "manifest": re.compile(rf"stages/[a-z]+/manifests/{_HEX}\.parquet"),
    "segment": re.compile(rf"{_ID}/index/(?P<name>{_HEX})\.parquet"),
    "shard": re.compile(rf"{_ID}/shards/(?P<name>{_HEX})\.safetensors"),
    "note": re.compile(rf"{_ID}/stage\.json"),
    "backup": re.compile(r"runs/(?P<run>[^/]+)/backups/\.writing-[0-9-]+/.+"),
    "leftover": re.compile(
        rf"(tmp/plans/(?P<plan>{_HEX})/{_HEX}\.parquet"
        rf"|tmp/(?P<file>{_HEX})(\.safetensors)?|probe/(?P<probe>{_HEX}))"
    ),
}
"""What may be deleted, in the order in which it is."""
LEFT_OVER = "left behind by a process that was killed"
QUIET_SECONDS = 3600.0
"""Files that are being written are younger than this, whatever the grace period."""
_PLAN = re.compile(rf"gc/{_HEX}\.json")
_DELETERS = 16


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that nobody needs."""

    path: str
    nbytes: int
    kind: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is to be kept, and how young a file must be to be left alone."""

    reached: Reachable
    versions: Collection[tuple[str, int]]
    """The kept ones: (name, number)."""
    why_version: str
    """Why the others may go."""
    idle_runs: Collection[str] = ()
    """Runs that nobody trains now."""
    captions: bool = False
    """Generated captions that no kept version needs may go."""
    now: float = field(default_factory=time.time)
    grace_seconds: float = 0.0

    def is_young(self, name: str, least: float = 0.0) -> bool:
        """Whether a name, as `new_name` makes them, is younger than the grace period."""
        return self.now - int(name[:12], 16) / 1000 < max(self.grace_seconds, least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was found to be garbage at some moment."""

    path: str
    made_at: float
    """Seconds since 1970."""
    files: tuple[Garbage, ...]


def find_garbage(store: Store, scope: Scope) -> list[Garbage]:
    """Finds what nobody needs, in the order of deletion."""
    listing = store.list("") | store.list("tmp")
    found: dict[str, list[tuple[str, re.Match[str]]]] = defaultdict(list)
    for path in listing:
        for kind, pattern in KINDS.items():
            if match := pattern.fullmatch(path):
                found[kind].append((path, match))
    reasons = dict(
        chain(_datasets(found, scope), _stages(store, found, scope), _left_over(found, scope))
    )
    kinds = {path: kind for kind, files in found.items() for path, _ in files}
    garbage = (Garbage(path, listing[path], kinds[path], why) for path, why in reasons.items())
    order = list(KINDS)
    return sorted(garbage, key=lambda one: (order.index(one.kind), one.path))


def _datasets(
    found: Mapping[str, list[tuple[str, re.Match[str]]]], scope: Scope
) -> Iterator[tuple[str, str]]:
    for kind, why in (("version", scope.why_version), ("page", "page of a version that goes")):
        for path, match in found[kind]:
            if (match["dataset"], int(match["number"])) not in scope.versions:
                yield path, why
    for kind in ("rows", "manifest"):
        for path, _ in found[kind]:
            if path not in scope.reached.paths:
                yield path, "no kept version names it"


def _stages(
    store: Store, found: Mapping[str, list[tuple[str, re.Match[str]]]], scope: Scope
) -> Iterator[tuple[str, str]]:
    """Segments with their shards, shards without a segment, and what tells of an empty stage."""
    folders: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for kind in ("segment", "shard", "note"):
        for path, match in found[kind]:
            name = "" if kind == "note" else match["name"]
            folders[match["stage"], match["id"]].append((kind, name, path))
    for (stage, stage_id), files in folders.items():
        if stage == "captions" and not scope.captions:
            continue
        written = stage == "captions"
        needed = needed_segments(store, stage, stage_id, scope.reached, keep_written=written)
        committed = {name for kind, name, _ in files if kind == "segment"}
        items = [file for file in files if file[0] != "note"]
        gone = [file for file in items if file[1] not in needed and not scope.is_young(file[1])]
        for _, name, path in gone:
            why = "no kept version needs any of its items"
            yield path, why if name in committed else f"{LEFT_OVER}: it was never committed"
        if len(gone) == len(items):
            yield from ((path, "its stage is empty") for kind, _, path in files if kind == "note")


def _left_over(
    found: Mapping[str, list[tuple[str, re.Match[str]]]], scope: Scope
) -> Iterator[tuple[str, str]]:
    for path, match in found["leftover"]:
        name = match["plan"] or match["file"] or match["probe"]
        if not scope.is_young(name, QUIET_SECONDS):
            yield path, LEFT_OVER
    for path, match in found["backup"]:
        if match["run"] in scope.idle_runs:
            yield path, f"{LEFT_OVER} while it wrote a backup"


def write_plan(store: Store, garbage: Collection[Garbage], now: float) -> Plan:
    """Notes what is to be deleted after the grace period."""
    path = f"gc/{new_name()}.json"
    document = {"format": 1, "made_at": now, "files": [asdict(one) for one in garbage]}
    store.put_if_absent(path, json.dumps(document, ensure_ascii=False).encode())
    return Plan(path=path, made_at=now, files=tuple(garbage))


def read_plans(store: Store) -> list[Plan]:
    """Reads the plans that are not carried out yet, the oldest first.

    Raises:
        CorruptError: one is damaged.
    """
    return [_read(store, path) for path in store.list("gc") if _PLAN.fullmatch(path)]


def _read(store: Store, path: str) -> Plan:
    try:
        document = json.loads(store.read_bytes(path))
        files = tuple(Garbage(**one) for one in document["files"])
        return Plan(path=path, made_at=float(document["made_at"]), files=files)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"{store.uri(path)} is damaged: {error}; delete it, and mark again"
        ) from error


def delete_garbage(
    store: Store, garbage: Iterable[Garbage], go_on: Callable[[], object] = lambda: None
) -> tuple[int, int]:
    """Deletes files, kind after kind; returns how many there were and their bytes.

    Args:
        store: the store.
        garbage: in the order of `find_garbage`.
        go_on: called before every few files; what it raises ends the deletion.
    """
    num_files = num_bytes = 0
    with ThreadPoolExecutor(_DELETERS) as pool:
        for _, files in groupby(garbage, key=lambda one: one.kind):
            while batch := list(islice(files, 16 * _DELETERS)):
                go_on()
                list(pool.map(lambda one: store.delete(one.path), batch))
                num_files += len(batch)
                num_bytes += sum(one.nbytes for one in batch)
                _settle(store, batch)
    return num_files, num_bytes


def _settle(store: Store, deleted: Iterable[Garbage]) -> None:
    """On a disk, makes a deletion durable before what was named goes; empty folders go too.

    Object stores are durable, and have no folders.
    """
    for folder in sorted({one.path.rpartition("/")[0] for one in deleted}, reverse=True):
        while "/" in folder and (local := store.local_path(folder)) is not None:
            with suppress(FileNotFoundError):
                sync_folder(local)
            with suppress(OSError):  # it is not empty, or a writer has made it anew
                local.rmdir()
            folder = folder.rpartition("/")[0]
