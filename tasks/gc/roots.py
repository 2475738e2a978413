"""Roots: the dataset versions that are kept, each with the reason."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from storage.errors import CorruptError
from storage.gc import QUIET_SECONDS
from storage.pins import Pin
from storage.store import Store
from storage.versions import Version, list_versions
from tasks.gc.kept import kept_by_hand
from tasks.lineage.origin import IDENTITY_FILE
from tasks.train.events import STATUS_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a person can choose."""

    keep_versions: int = 3
    """Of each dataset, the newest; at least one."""
    grace_hours: float = 24.0
    """Between marking and deleting; nothing younger is marked."""
    captions: bool = False
    """Generated captions that no kept version needs go too."""


@dataclass(frozen=True, slots=True)
class Root:
    """A version that is kept."""

    version: Version
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run as its folder tells it."""

    run_id: str
    dataset: str
    version: int
    state: str | None
    updated: float
    """Seconds since 1970; 0 where it has told nothing yet."""

    def is_idle(self, now: float) -> bool:
        """Whether nobody trains it: a training tells its state every second."""
        return 0 < self.updated < now - QUIET_SECONDS


def kept_versions(
    store: Store, rules: Rules, runs: Iterable[Run], pins: Iterable[Pin], now: float
) -> list[Root]:
    """Gives the versions to keep, each with the first reason that there is.

    Raises:
        CorruptError: the JSON of a version is damaged.
    """
    since = now - rules.grace_hours * 3600
    wanted = dict(_pinned(runs, pins, since)) | kept_by_hand(store)
    roots = []
    for name in dataset_names(store):
        versions = list_versions(store, name)
        newest = {version.number for version in versions[-max(rules.keep_versions, 1) :]}
        for version in versions:
            why = "it is one of the newest" if version.number in newest else None
            why = why or wanted.get((name, version.number)) or _young(version, since)
            if why:
                roots.append(Root(version, why))
    return roots


def dataset_names(store: Store) -> list[str]:
    """The names of the datasets in a store."""
    return sorted({path.split("/")[1] for path in store.list("datasets") if path.count("/") > 1})


def stored_runs(store: Store) -> list[Run]:
    """The runs in a store: their folders, or the copies of them.

    Raises:
        CorruptError: the identity of a run is damaged.
    """
    listing = store.list("runs")
    return [
        _run(
            path.split("/")[1],
            store.read_bytes(path),
            store.read_bytes(status)
            if (status := f"{path[: -len(IDENTITY_FILE)]}{STATUS_FILE}") in listing
            else b"{}",
        )
        for path in listing
        if path.count("/") == 2 and path.endswith(f"/{IDENTITY_FILE}")
    ]


def local_runs(folder: Path) -> list[Run]:
    """The runs in a folder of this machine, which a store elsewhere may not have yet."""
    found = []
    for identity in sorted(folder.glob(f"*/{IDENTITY_FILE}")):
        status = identity.with_name(STATUS_FILE)
        told = status.read_bytes() if status.exists() else b"{}"
        found.append(_run(identity.parent.name, identity.read_bytes(), told))
    return found


def _run(run_id: str, identity: bytes, status: bytes) -> Run:
    try:
        facts: dict[str, Any] = json.loads(identity)
        told: dict[str, Any] = json.loads(status)
        return Run(
            run_id=run_id,
            dataset=str(facts["dataset"]),
            version=int(facts["version"]),
            state=told.get("state"),
            updated=float(told.get("updated", 0)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"run {run_id}: {IDENTITY_FILE} or {STATUS_FILE} is damaged: {error}; which version it "
            "needs is not known: delete the run's folder, or mend the file"
        ) from error


def _pinned(
    runs: Iterable[Run], pins: Iterable[Pin], since: float
) -> Iterator[tuple[tuple[str, int], str]]:
    """(name, number) and the reason of what trainings need."""
    for run in runs:
        if run.state != "done":
            yield (run.dataset, run.version), f"run {run.run_id} is not finished"
        elif run.updated >= since:
            yield (run.dataset, run.version), f"run {run.run_id} has only just ended"
    for pin in pins:
        if pin.dataset is not None and pin.version is not None:
            yield (pin.dataset, pin.version), pin.told()


def _young(version: Version, since: float) -> str | None:
    made_at = datetime.fromisoformat(version.meta["created_at"]).timestamp()
    return "it is younger than the grace period" if made_at >= since else None


def idle_runs(runs: Sequence[Run], now: float) -> set[str]:
    """The ids of runs that nobody trains now."""
    busy = {run.run_id for run in runs if not run.is_idle(now)}
    return {run.run_id for run in runs} - busy
