"""Stage: the one contract that scan, prompts, crops, captions, masks, text and latents obey.

wanted   -> every item the configuration asks for, with its key
check    -> which of them the store lacks (and why), which are known to be bad
work     -> make the missing items of one partition and commit them, or quarantine them
manifest -> the wanted items that are committed, in a table that the next stage reads

Nothing here or in a stage's own modules knows Prefect: `tasks.pipeline.plan` runs the first two
alone, `tasks.pipeline.task` turns the same records into Prefect tasks.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from storage import index, tables, versions
from storage.errors import NotFoundError
from storage.hashcache import read_hash_cache
from storage.naming import now_iso
from storage.quarantine import quarantine, read_quarantine
from storage.store import Store, open_store
from tasks.arrow import as_array, count_true, first_of_each, with_columns
from tasks.config.models import Config

Tables = Mapping[str, pa.Table]
"""Manifest of each upstream stage, by stage name."""

Report = Callable[[int], None]
"""Told the number of items that have just been finished."""

_opened = lru_cache(maxsize=4)(open_store)
"""Every task of a process shares one open store: opening costs an object store several requests."""

NEW, REFRESHED = "new", "refresh was asked for"
MAX_PARTITIONS = 200
"""A Prefect server pays about 40 ms of CPU per task run, so a stage is cut into a few hundred."""


@dataclass(frozen=True)
class StageCounts:
    """What a stage did (or would do), in items; wanted = reused + computed."""

    wanted: int = 0
    reused: int = 0
    computed: int = 0
    new: int = 0
    changed: int = 0
    removed: int = 0
    rejected: int = 0
    exact: bool = True
    reasons: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The counts as the `--json` summaries print them."""
        return asdict(self)


@dataclass(frozen=True)
class Rejection:
    """One item that cannot be made, and why."""

    key: bytes
    source_id: bytes | None
    path: str
    reason: str


@dataclass(frozen=True)
class Context:
    """What every stage may know: the configuration, the store, and what the last version used."""

    config: Config
    dry_run: bool = False
    """Planning only: nothing is written."""

    @cached_property
    def store(self) -> Store:
        """The store, opened on first use; an empty one in memory when a plan finds none."""
        try:
            return _opened(self.config.store.url, create=not self.dry_run)
        except NotFoundError:
            return open_store(f"memory://plan-{uuid4().hex}")

    @cached_property
    def latest(self) -> versions.Version | None:
        """The newest version of the dataset, or None."""
        return versions.latest_version(self.store, self.config.data.name)

    def previous(self, stage: str) -> tuple[str, pa.Table] | None:
        """(stage_id, table of key and logical) of a stage in the newest version, or None."""
        ref = self.latest.meta["stages"].get(stage) if self.latest else None
        if ref is None or not self.store.exists(ref["manifest"]):
            return None
        return ref["stage_id"], tables.get_table(self.store, ref["manifest"], ["key", "logical"])

    def hash_cache(self, kind: str) -> pa.Table:
        """What is known of files of one kind (image, text, mask, weights) by their stat."""
        cache = read_hash_cache(self.store)
        return cache.filter(pc.equal(cache["kind"], kind))

    def rejected(self, stage: str, stage_id: str) -> pa.Table:
        """The items of a stage that are known to be bad."""
        table = read_quarantine(self.store, stage)
        return table.filter(pc.equal(table["stage_id"], stage_id))

    def reject(self, stage: str, stage_id: str, rejections: Sequence[Rejection]) -> None:
        """Quarantines items, each with its reason."""
        shared = {
            "stage": stage,
            "stage_id": stage_id,
            "first_seen": now_iso(),
            "attempts": 1,
        }
        quarantine(self.store, [shared | asdict(rejection) for rejection in rejections])

    def refreshes(self, stage: str) -> bool:
        """Whether the items of this stage are to be made anew."""
        return stage in self.config.refresh

    def committed(self, stage: str, stage_id: str, columns: list[str] | None = None) -> pa.Table:
        """The committed items of a stage, checksums re-read when the configuration says `deep`."""
        return index.read_index(self.store, stage, stage_id, columns, deep=self.config.deep)


@dataclass(frozen=True)
class Wanted:
    """Every item that the configuration asks for."""

    stage_id: str
    table: pa.Table
    """At least `key`, `logical` (what the item is for, whatever its content) and `group` (items
    worked on together, adjacent). `certain`, if there is one, is false where planning cannot know
    whether the item will be wanted."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """stage_id to everything that made it; written to stage.json."""


@dataclass(frozen=True)
class Checked:
    """The wanted items held against the store."""

    wanted: Wanted
    missing: pa.Table
    """The rows of `wanted.table` that must be made, `why`, and whether they were (`was_there`)."""
    bad: pa.Table
    """The rows known to be bad, with their `reason` and whether they were `made` all the same: a
    file that is no image was hashed."""
    counts: StageCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage as a record of four functions."""

    name: str
    after: tuple[str, ...]
    """Upstream stages whose manifests it reads."""
    wanted: Callable[[Context, Tables], Wanted]
    check: Callable[[Context, Wanted], Checked]
    work: Callable[[Context, Wanted, pa.Table, Report], None]
    """(context, wanted, missing rows of one partition, report)"""
    manifest: Callable[[Context, Checked], pa.Table]
    """In a dry run, items that are missing are taken to be fine."""
    partition_items: int
    """So many items make a partition worth several seconds."""


@dataclass(frozen=True)
class StageRef:
    """What crosses a task boundary: where the manifest is, and the counts."""

    stage: str
    stage_id: str
    manifest: str
    rejects: str | None
    """Table of the items that could not be made: path and reason."""
    num_items: int
    counts: StageCounts

    def as_json(self) -> dict[str, Any]:
        """The entry of this stage in a dataset version."""
        return {
            "stage_id": self.stage_id,
            "manifest": self.manifest,
            "num_items": self.num_items,
            "rejects": self.rejects,
            "counts": self.counts.as_json(),
        }


def compare(
    context: Context,
    stage: str,
    wanted: Wanted,
    *,
    committed: pa.Table,
    bad: pa.Table,
    changed_reason: str,
) -> Checked:
    """Splits the wanted items into reused, new, changed and bad ones, and counts removed ones.

    A missing item whose `logical` name was in the last version is changed, else it is new; it is
    changed also where the stage itself says `why`.
    `missing` keeps the order of the table, so that the items of a group stay together. The counts
    are exact when all of them are certain.

    Args:
        context: the run.
        stage: the stage's name.
        wanted: its wanted items.
        committed: the items that exist (column key).
        bad: the wanted items that cannot be made (columns key and reason).
        changed_reason: why an item of the last version would have to be made again.
    """
    unique = first_of_each(wanted.table, "key")
    at = pc.index_in(unique["key"], as_array(bad["key"]))
    is_bad = pc.is_valid(at)
    made = pc.is_in(unique["key"], as_array(committed["key"]))
    good = unique.filter(pc.or_(pc.invert(is_bad), made))
    missing = good if context.refreshes(stage) else index.missing(good, committed)
    previous = context.previous(stage)
    if previous is not None and previous[0] != wanted.stage_id:
        changed_reason = "version, weights or data type of the stage changed"
    missing = _explained(missing, previous, changed_reason)
    if context.refreshes(stage):
        missing = with_columns(missing, why=pa.array([REFRESHED] * missing.num_rows, pa.string()))
    changed = count_true(missing["was_there"])
    counts = StageCounts(
        wanted=good.num_rows,
        reused=good.num_rows - missing.num_rows,
        computed=missing.num_rows,
        new=missing.num_rows - changed,
        changed=changed,
        removed=0 if previous is None else num_removed(previous[1], wanted.table),
        rejected=count_true(is_bad),
        exact=_all_certain(missing),
        reasons=reasons_of(missing),
    )
    reasoned = with_columns(unique, reason=bad["reason"].take(as_array(at)), made=made)
    return Checked(wanted, missing, reasoned.filter(is_bad), counts)


def _explained(
    missing: pa.Table, previous: tuple[str, pa.Table] | None, changed_reason: str
) -> pa.Table:
    """`missing` with `was_there`, whether the item was made before, and `why` it is to be made.

    A stage that knows better than `changed_reason` has said `why` already.
    """
    none = pa.nulls(missing.num_rows, pa.string())
    why = as_array(missing["why"]) if "why" in missing.column_names else none
    was_there = pc.and_(pc.is_valid(why), pc.not_equal(pc.fill_null(why, NEW), NEW))
    if previous is not None:
        known = pc.is_in(as_array(missing["logical"]), as_array(previous[1]["logical"]))
        was_there = pc.or_(was_there, known)
    told = pc.if_else(was_there, pc.coalesce(why, pa.scalar(changed_reason)), NEW)
    return with_columns(missing, was_there=was_there, why=told)


def reasons_of(items: pa.Table) -> dict[str, int]:
    """How many items are to be made for each reason; what is new comes first."""
    counts = Counter(items["why"].to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (item[0] != NEW, item[0])))


def _all_certain(missing: pa.Table) -> bool:
    known = "certain" in missing.column_names
    return not known or bool(pc.all(missing["certain"], min_count=0).as_py())


def num_removed(old: pa.Table, wanted: pa.Table) -> int:
    """How many items of the last version are wanted no more, neither by name nor by content."""
    gone = pc.invert(pc.is_in(old["logical"], as_array(wanted["logical"])))
    if old["key"].type == wanted["key"].type:
        gone = pc.and_(gone, pc.invert(pc.is_in(old["key"], as_array(wanted["key"]))))
    return len(pc.unique(old["logical"].filter(gone)))


def partition(missing: pa.Table, partition_items: int) -> pa.Table:
    """`missing` with a column `partition`: whole groups, in order, of about equal size."""
    size = max(partition_items, -(-missing.num_rows // MAX_PARTITIONS))
    numbers: list[int] = []
    number, filled, last = 0, 0, None
    for group in missing["group"].to_pylist():
        if group != last and filled >= size:
            number, filled = number + 1, 0
        last, filled = group, filled + 1
        numbers.append(number)
    return missing.append_column("partition", pa.array(numbers, pa.int32()))
