"""The Prefect tasks of preparing a dataset: one per stage step and partition, never per image.

Caching is the store's (docs/adr/0002): a stage with nothing missing ends in a state named Cached,
with the reason as its message. Prefect's own result cache is off everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage import versions
from storage.errors import StorageError
from storage.pins import Hold, pinned
from tasks import progress
from tasks.artifacts.task import shown_progress
from tasks.caching.task import cached, value
from tasks.config.models import Config
from tasks.export.tiles import saving_concepts
from tasks.gpu.task import gpu_slot
from tasks.pipeline.captions import captions_told
from tasks.pipeline.epochs import version_epochs
from tasks.pipeline.estimates import ENCODES, Worked
from tasks.pipeline.export import Exported, export_tiles
from tasks.pipeline.plan import latest_told, plan_pipeline, stages_json
from tasks.pipeline.plan_markdown import plan_markdown
from tasks.pipeline.report import (
    current_report,
    num_missing_captions,
    read_digest,
    read_rejects,
    report_path,
    write_report,
)
from tasks.pipeline.run import (
    StagePlan,
    make_version,
    plan_stage,
    seal_stage,
    uses_gpu,
    work_partition,
)
from tasks.pipeline.stages import STAGES
from tasks.report.prepared_markdown import PreparedRun
from tasks.report.task import publish_report, publish_run
from tasks.review.task import Dropped, Waiting, as_reviewed, look_at_captions
from tasks.runners.task import Workers
from tasks.stage import Context, StageRef


@dataclass(frozen=True)
class Unreviewed:
    """A preparation that ended where a person has to look at captions."""

    refs: dict[str, StageRef]
    waiting: Waiting


@dataclass(frozen=True)
class Prepared:
    """What a preparation made."""

    version: versions.Version
    refs: dict[str, StageRef]
    exported: Exported | None
    """What was written to the folders of tiles; None: no concept asked for it."""
    created: bool
    """Whether the version is a new one."""
    outlook: dict[str, Any] | None
    """The epochs of a training on it; None when there is nothing to train on."""


def _is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a failed partition is worth another try: bad input fails again, I/O may not."""
    error = state.result(raise_on_failure=False)
    return not isinstance(error, ValueError | TypeError | StorageError)


@task(cache_policy=NO_CACHE, persist_result=False)
def plan(config: Config, stage: str, upstream: dict[str, StageRef]) -> StagePlan | StageRef:
    """Plans a stage; Cached when the store has every item."""
    with shown_progress():
        planned = plan_stage(config, stage, upstream)
    if isinstance(planned, StageRef):
        counts = planned.counts
        told = f"reused {counts.reused} items" if counts.wanted else "no concept asks for any"
        found: StageRef = cached(told, planned)
        return found
    return planned


@task(
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=_is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def work(config: Config, stage_plan: StagePlan, number: int, call: Callable[..., Any]) -> Worked:
    """Makes the missing items of one partition, wherever `call` calls functions."""
    stage = stage_plan.stage
    # A cluster at an address has machines of its own, and hands out their GPUs itself.
    needed = config.workers.address is None and uses_gpu(config, stage)
    with gpu_slot(config, needed=needed):
        worked: Worked = call(work_partition, config, stage_plan, number, on_gpu=stage in ENCODES)
        return worked


@task(
    retries=1,
    retry_delay_seconds=2,
    retry_condition_fn=_is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def seal(config: Config, stage_plan: StagePlan, done: list[Worked]) -> StageRef:
    """Writes the manifest of a stage whose partitions are done."""
    return seal_stage(config, stage_plan, done)


@task(cache_policy=NO_CACHE, persist_result=False)
def commit_version(config: Config, refs: dict[str, StageRef]) -> versions.Version:
    """Makes the dataset version; Cached when it would equal the latest one."""
    version, created = make_version(config, refs)
    if not created:
        version = cached(f"equals version {version.number}", version)
    return version


@task(
    retries=1,
    retry_delay_seconds=2,
    retry_condition_fn=_is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def export(config: Config, version: versions.Version) -> Exported | None:
    """Writes the tiles of a version to disk; Cached when they are all there."""
    exported = export_tiles(config, version)
    if exported is not None and not (exported.written or exported.sidecars or exported.skipped):
        exported = cached(f"reused {exported.tiles} tiles", exported)
    return exported


@task(cache_policy=NO_CACHE, persist_result=False)
def report(config: Config, version: versions.Version, refs: dict[str, StageRef]) -> str:
    """Writes the HTML report of a version; Cached when it has one that is still right."""
    there = current_report(Context(config).store, version, refs)
    uri = there or write_report(config, version, refs)
    publish_report(f"{version.name}@{version.number}", uri)
    if there is not None:
        uri = cached("this version has its report", uri)
    return uri


def run_stage(
    config: Config, name: str, upstream: dict[str, StageRef], workers: Workers
) -> StageRef:
    """One stage inside a flow: plan, the missing partitions, seal."""
    planned = value(plan.with_options(name=name, task_run_name=name)(config, name, upstream))
    if isinstance(planned, StageRef):
        return planned
    total = planned.num_partitions
    calls = {
        number: (
            work.with_options(name=f"{name}-work", task_run_name=f"{name} {number + 1}/{total}"),
            {"config": config, "stage_plan": planned, "number": number, "call": workers.call},
        )
        for number in range(total)
    }

    def told(num_done: int) -> None:
        progress.report(name, num_done, total, "partitions")

    try:
        done = workers.run(calls, told)
    except BaseException as error:
        if not isinstance(error, Exception):
            progress.stop()  # a cancel reaches this thread alone; those that work notice by this
        raise
    sealed: StageRef = seal.with_options(name=f"{name}-seal", task_run_name=f"{name} seal")(
        config, planned, [done[number] for number in calls]
    )
    return sealed


def prepare(config: Config) -> Prepared | Unreviewed:
    """All data stages, the dataset version and its exported tiles, inside a flow.

    With `review_captions` it ends behind the captions while a person has yet to look at some.
    Garbage collection waits meanwhile.
    """
    with pinned(Context(config).store, "prepare") as hold:
        return _prepare(config, hold)


def _prepare(config: Config, hold: Hold) -> Prepared | Unreviewed:
    config = as_reviewed(config)
    refs: dict[str, StageRef] = {}
    with Workers(config.workers) as workers:
        stages = list(STAGES)
        while stages:
            stage = stages.pop(0)
            upstream = {up: refs[up] for up in stage.after}
            refs[stage.name] = run_stage(config, stage.name, upstream, workers)
            if stage.name != "captions":
                continue
            if config.review_captions:
                workers.rest()  # a person may take days
            match look_at_captions(config, refs):
                case Waiting() as waiting:
                    return Unreviewed(refs, waiting)
                case Dropped():  # fewer tiles: all that are left have their captions already
                    stages = [one for one in STAGES if one.name in ("crops", "captions")] + stages
    hold.require()
    commit = commit_version.with_options(name="dataset", task_run_name="dataset")
    committed = commit(config, refs)
    version = value(committed)
    exported = None
    if saving_concepts(config):
        exported = value(export.with_options(task_run_name="export")(config, version))
    report.with_options(name="report", task_run_name="report")(config, version, refs)
    digest, outlook = read_digest(Context(config).store, version), version_epochs(config, version)
    publish_run(_as_run(config, version, refs, digest, outlook), digest["tables"])
    created = committed is version
    return Prepared(version, refs, exported, created, outlook)


def _as_run(
    config: Config,
    version: versions.Version,
    refs: dict[str, StageRef],
    digest: dict[str, Any],
    outlook: dict[str, Any] | None,
) -> PreparedRun:
    """The preparation as its artifacts tell it."""
    facts = {"content_digest": version.content_digest, "parent": version.meta.get("parent")}
    return PreparedRun(
        dataset=version.summary() | facts,
        stages=stages_json({name: ref.counts for name, ref in refs.items()}),
        keys={name: ref.stage_id for name, ref in refs.items()},
        photos=digest["photos"],
        outlook=outlook,
        store=config.store.url,
    )


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE, persist_result=False)
def show_plan(config: Config) -> dict[str, Any]:
    """Says in an artifact what a preparation would do; Cached when there is nothing to do."""
    with shown_progress():
        told = plan_pipeline(config)
    create_markdown_artifact(
        markdown=plan_markdown(told), key="plan", description=f"{config.data.name}: plan"
    )
    if not any(stage["computed"] for stage in told["stages"].values()):
        told = cached("there is nothing to do", told)
    return told


def plan_only(config: Config) -> dict[str, Any]:
    """A dry run inside a flow; gives the object that `tilewright plan --json` prints."""
    told: dict[str, Any] = value(show_plan(config))
    return told


def summary(config: Config, prepared: Prepared | Unreviewed, seconds: float) -> dict[str, Any]:
    """The object that `tilewright prepare --json` prints."""
    context, refs = Context(config), prepared.refs
    captions = captions_told(context, refs["captions"])
    told = {
        **({"captions": captions} if captions else {}),
        "stages": stages_json({name: ref.counts for name, ref in refs.items()}),
        "rejects": read_rejects(context, refs, only_files=True).to_pylist(),
        "seconds": round(seconds, 3),
    }
    if isinstance(prepared, Unreviewed):
        return {"dataset": latest_told(context), "review": prepared.waiting.as_json(), **told}
    version, exported = prepared.version, prepared.exported
    return {
        "report": context.store.uri(report_path(version)),
        "dataset": version.summary(),
        **told,
        "missing_captions": num_missing_captions(context, version),
        "outlook": prepared.outlook,
        **({"export": exported.as_json()} if exported else {}),
    }
