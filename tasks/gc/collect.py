"""Collect: look for garbage, mark it, and delete what was marked a grace period ago."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.gc import (
    Garbage,
    Plan,
    Scope,
    delete_garbage,
    find_garbage,
    read_plans,
    write_plan,
)
from storage.pins import delete_stale_pins, live_pins, sweeping
from storage.reachable import reachable
from storage.store import Store
from tasks.gc.roots import Root, Rules, idle_runs, kept_versions, local_runs, stored_runs


@dataclass(frozen=True, slots=True)
class Survey:
    """A store as a collection sees it."""

    roots: list[Root]
    garbage: list[Garbage]
    plans: list[Plan]


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection found and did."""

    store: str
    rules: Rules
    survey: Survey
    now: float
    marked: list[Garbage] | None = None
    """None: nothing was to be marked."""
    deleted: tuple[int, int] | None = None
    """Files and bytes; None: nothing was to be deleted."""
    seconds: float = field(default=0.0)


def collect(
    store: Store,
    rules: Rules,
    *,
    workspace: Path | None = None,
    mark: bool = False,
    delete: bool = False,
) -> Collected:
    """Looks for garbage; deletes what was marked long enough ago, then marks the rest.

    Args:
        store: the store.
        rules: what is kept.
        workspace: a folder with runs on this machine, for stores that are elsewhere.
        mark: note what is garbage now, so that it can be deleted later.
        delete: delete what an old enough plan names and what is garbage still.

    Raises:
        InUseError: `delete`, and a preparation is at work; nothing was deleted.
        CorruptError: it is not known what a kept version or a run needs; nothing was deleted.
    """
    started, now = time.monotonic(), time.time()
    deleted = sweep(store, rules, workspace, now) if delete else None
    survey = look(store, rules, workspace, now)
    marked = None
    if mark:
        waiting = {one.path for plan in survey.plans for one in plan.files}
        marked = [one for one in survey.garbage if one.path not in waiting]
        if marked:
            survey.plans.append(write_plan(store, marked, now))
    seconds = round(time.monotonic() - started, 3)
    return Collected(store.url, rules, survey, now, marked, deleted, seconds)


def look(store: Store, rules: Rules, workspace: Path | None, now: float) -> Survey:
    """What is kept and why, what is garbage, and what is marked."""
    runs = stored_runs(store) + (local_runs(workspace) if workspace else [])
    roots = kept_versions(store, rules, runs, live_pins(store), now)
    scope = Scope(
        reached=reachable(store, [root.version for root in roots]),
        versions={(root.version.name, root.version.number) for root in roots},
        why_version=f"it is not one of the newest {rules.keep_versions}, and no run needs it",
        idle_runs=idle_runs(runs, now),
        captions=rules.captions,
        now=now,
        grace_seconds=rules.grace_hours * 3600,
    )
    return Survey(roots, find_garbage(store, scope), read_plans(store))


def sweep(store: Store, rules: Rules, workspace: Path | None, now: float) -> tuple[int, int]:
    """Deletes what due plans name and what is garbage still; returns files and bytes.

    The look is taken again while preparations wait, so that nothing can begin to rely on what it
    found. A plan goes last: a sweep that was killed is carried on by the next.
    """
    with sweeping(store) as hold:
        survey = look(store, rules, workspace, now)
        plans = [plan for plan in survey.plans if is_due(plan, rules, now)]
        named = {one.path for plan in plans for one in plan.files}
        garbage = [one for one in survey.garbage if one.path in named]
        deleted = delete_garbage(store, garbage, hold.require)
        for plan in plans:
            store.delete(plan.path)
        delete_stale_pins(store)
    return deleted


def is_due(plan: Plan, rules: Rules, now: float) -> bool:
    """Whether the grace period of a plan is over."""
    return plan.made_at + rules.grace_hours * 3600 <= now


def groups(garbage: Iterable[Garbage]) -> list[dict[str, Any]]:
    """Files and bytes by stage (or what else a file belongs to) and reason."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for one in garbage:
        parts = one.path.split("/")
        entry = counts[parts[1] if parts[0] == "stages" else parts[0], one.why]
        entry[0] += 1
        entry[1] += one.nbytes
    return [
        {"what": what, "why": why, "files": files, "bytes": nbytes}
        for (what, why), (files, nbytes) in sorted(counts.items())
    ]


def as_json(collected: Collected) -> dict[str, Any]:
    """The object that `tilewright gc --json` prints; times are ISO 8601, UTC."""
    rules, survey = collected.rules, collected.survey
    done = collected.deleted
    return {
        "store": collected.store,
        "dry_run": collected.marked is None and done is None,
        "keep_versions": rules.keep_versions,
        "grace_hours": rules.grace_hours,
        "kept": [
            {"dataset": root.version.name, "version": root.version.number, "why": root.why}
            for root in survey.roots
        ],
        "garbage": _totals(survey.garbage) | {"groups": groups(survey.garbage)},
        "plans": [_plan(plan, rules, collected.now) for plan in survey.plans],
        "marked": None if collected.marked is None else _totals(collected.marked),
        "deleted": None if done is None else {"files": done[0], "bytes": done[1]},
        "seconds": collected.seconds,
    }


def _plan(plan: Plan, rules: Rules, now: float) -> dict[str, Any]:
    return {
        "plan": plan.path,
        "made_at": _iso(plan.made_at),
        "due_at": _iso(plan.made_at + rules.grace_hours * 3600),
        "due": is_due(plan, rules, now),
        **_totals(plan.files),
    }


def _totals(files: Sequence[Garbage]) -> dict[str, int]:
    return {"files": len(files), "bytes": sum(one.nbytes for one in files)}


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
