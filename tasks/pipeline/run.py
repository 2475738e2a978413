"""Run: the steps of one stage as plain functions over small records; `task.py` names and retries.

A plan's tables live in the store while the stage runs, so that what crosses a task boundary is a
path and a few counts.
"""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from storage import index, tables, versions
from storage.naming import new_name, now_iso, stage_path
from storage.rates import Rate, append_rate, written_since
from tasks import progress
from tasks.arrow import as_array, count_true, first_of_each, with_columns
from tasks.captions.client import is_on_this_machine
from tasks.captions.generated import captioning_concepts
from tasks.config.models import Config
from tasks.dataset.assemble import assemble, extra_facts
from tasks.dataset.settings import data_settings, settings_digest
from tasks.pipeline.estimates import Worked, device_kind, units
from tasks.pipeline.stages import STAGES
from tasks.stage import (
    Checked,
    Context,
    Report,
    Stage,
    StageCounts,
    StageRef,
    Wanted,
    partition,
    reasons_of,
)

LOST = "it vanished or changed while the run was reading it; the next run sees it anew"
BY_NAME = {stage.name: stage for stage in STAGES}


@dataclass(frozen=True)
class StagePlan:
    """What is left to do of a stage: where its tables are, and the counts."""

    stage: str
    stage_id: str
    facts: dict[str, dict[str, object]]
    wanted: str
    todo: str
    num_partitions: int
    counts: StageCounts
    moment: str
    """A name of the store that was made before the work began: later ones are younger."""


def plan_stage(config: Config, name: str, upstream: dict[str, StageRef]) -> StagePlan | StageRef:
    """Holds a stage against the store: a ref when nothing is missing, else what must be done."""
    stage, context = BY_NAME[name], Context(config)
    manifests = {
        above: tables.get_table(context.store, ref.manifest) for above, ref in upstream.items()
    }
    checked = stage.check(context, stage.wanted(context, manifests))
    if not checked.missing.num_rows:
        return _ref(context, stage, checked, checked.counts)
    for stage_id, facts in checked.wanted.facts.items():
        index.write_stage_json(context.store, name, stage_id, dict(facts))
    todo = partition(checked.missing, stage.partition_items)
    moment = new_name()
    folder = f"tmp/plans/{moment}"
    return StagePlan(
        stage=name,
        stage_id=checked.wanted.stage_id,
        facts={key: dict(value) for key, value in checked.wanted.facts.items()},
        wanted=tables.put_table(context.store, folder, checked.wanted.table),
        todo=tables.put_table(context.store, folder, todo),
        num_partitions=1 + pc.max(todo["partition"]).as_py(),
        counts=checked.counts,
        moment=moment,
    )


def work_partition(config: Config, plan: StagePlan, number: int) -> Worked:
    """Makes what is still missing of one partition (a retry finds what was committed before)."""
    started = time.monotonic()
    stage, context = BY_NAME[plan.stage], Context(config)
    todo = tables.get_table(context.store, plan.todo)
    rows = todo.filter(pc.equal(todo["partition"], number)).drop_columns(["partition"])
    before = count_true(pc.less(todo["partition"], number))
    report = _counter(plan.stage, done=before, total=todo.num_rows)
    wanted = Wanted(plan.stage_id, rows, plan.facts)
    left = rows if context.refreshes(plan.stage) else stage.check(context, wanted).missing
    report(rows.num_rows - left.num_rows)
    if left.num_rows:
        stage.work(context, wanted, left, report)
    return Worked(left.num_rows, units(plan.stage, left), time.monotonic() - started)


def seal_stage(config: Config, plan: StagePlan, done: Sequence[Worked] = ()) -> StageRef:
    """Checks that every wanted item is committed or rejected with a reason; writes the manifest.

    Items of sources that vanished or changed during the run are neither: they are counted as
    rejected, and the next run makes them. What the partitions took is noted for later plans.
    """
    stage = BY_NAME[plan.stage]
    context = Context(config.model_copy(update={"refresh": (), "deep": False}))
    wanted = Wanted(plan.stage_id, tables.get_table(context.store, plan.wanted), plan.facts)
    checked = stage.check(context, wanted)
    counts = _finished(plan, tables.get_table(context.store, plan.todo), checked)
    ref = _ref(context, stage, checked, counts)
    for path in (plan.wanted, plan.todo):
        context.store.delete(path)
    if any(worked.num_left for worked in done):
        append_rate(context.store, _rate(context, plan, done))
    return ref


def make_version(config: Config, refs: dict[str, StageRef]) -> tuple[versions.Version, bool]:
    """The dataset version that the manifests give, and whether it is new.

    Raises:
        ValueError: it would have no samples.
    """
    context = Context(config)
    manifests = {name: tables.get_table(context.store, ref.manifest) for name, ref in refs.items()}
    stage_ids = {name: ref.stage_id for name, ref in refs.items()}
    rows = assemble(config, stage_ids, manifests)
    if not rows.num_rows:
        raise ValueError(
            f"dataset {config.data.name!r} would have no samples: every image was rejected or "
            "every tile dropped; `tilewright plan` shows where they went"
        )
    return versions.commit_version(
        context.store,
        config.data.name,
        rows,
        stages={name: ref.as_json() for name, ref in refs.items()},
        config={"digest": settings_digest(config), **data_settings(config)},
        extra=extra_facts(config, stage_ids, manifests),
    )


def uses_gpu(config: Config, stage: str) -> bool:
    """Whether a stage's work uses the GPU of this machine, by itself or through a server here."""
    if stage != "captions":
        return device_kind(stage) == "cuda"
    asking = captioning_concepts(config).values()
    return any(is_on_this_machine(url) for crops in asking for url in crops.caption_endpoint)


def _counter(stage: str, done: int, total: int) -> Report:
    def add(num_items: int) -> None:
        nonlocal done
        done += num_items
        progress.report(stage, done, total)

    return add


def _rate(context: Context, plan: StagePlan, done: Sequence[Worked]) -> Rate:
    """How fast a stage was."""
    made = [stage_path(plan.stage, stage_id) for stage_id in plan.facts]
    folders = ["sources"] if plan.stage == "scan" else made
    return Rate(
        stage=plan.stage,
        stage_id=plan.stage_id,
        items=sum(worked.num_left for worked in done),
        units=sum(worked.units for worked in done),
        seconds=sum(worked.seconds for worked in done),
        nbytes=written_since(context.store, folders, plan.moment),
        device=device_kind(plan.stage),
        host=socket.gethostname(),
        finished_at=now_iso(),
    )


def _finished(plan: StagePlan, todo: pa.Table, checked: Checked) -> StageCounts:
    """The counts of a stage after its work; what is neither committed nor bad was lost."""
    lost = checked.missing
    unmade = checked.bad.filter(pc.invert(checked.bad["made"]))
    undone = pa.concat_tables([lost.select(["key"]), unmade.select(["key"])])
    done = index.missing(todo, undone)
    changed = count_true(done["was_there"])
    return replace(
        plan.counts,
        wanted=plan.counts.reused + done.num_rows,
        computed=done.num_rows,
        new=done.num_rows - changed,
        changed=changed,
        rejected=checked.counts.rejected + pc.count_distinct(lost["group"]).as_py(),
        exact=True,
        reasons=reasons_of(done),
    )


def _ref(context: Context, stage: Stage, checked: Checked, counts: StageCounts) -> StageRef:
    table: pa.Table = stage.manifest(context, checked)
    rejects = _rejects(context, stage, checked)
    folder = f"stages/{stage.name}/manifests"
    return StageRef(
        stage=stage.name,
        stage_id=checked.wanted.stage_id,
        manifest=tables.put_table(context.store, folder, table),
        rejects=tables.put_table(context.store, folder, rejects) if rejects.num_rows else None,
        num_items=len(pc.unique(as_array(table["key"]))),
        counts=counts,
    )


def _rejects(context: Context, stage: Stage, checked: Checked) -> pa.Table:
    """What could not be made (path and reason), each once.

    Where the stage says where its items come from (`origin`), that is told too.
    """
    lost = _lost(context, stage, checked)
    columns = [name for name in ("group", "reason", "origin") if name in lost.column_names]
    both = [part.select(columns) for part in (lost, checked.bad)]
    table = pa.concat_tables(both, promote_options="permissive")
    return first_of_each(table, "group").rename_columns(["path", *columns[1:]])


def _lost(context: Context, stage: Stage, checked: Checked) -> pa.Table:
    """The items that are missing after the work, with what is known of the reason."""
    lost = checked.missing
    known = context.rejected(stage.name, checked.wanted.stage_id)
    if lost["key"].type != known["key"].type:  # the scan's items are files, known by their paths
        return with_columns(lost, reason=pa.array([LOST] * lost.num_rows, pa.string()))
    at = as_array(pc.index_in(lost["key"], as_array(known["key"])))
    return with_columns(lost, reason=pc.fill_null(as_array(known["reason"]).take(at), LOST))
