"""The Prefect tasks of preparing a dataset: one per stage step and partition, never per image.

Caching is the store's (docs/adr/0002): a stage with nothing missing ends in a state named Cached,
with the reason as its message. Prefect's own result cache is off everywhere.
"""

from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from storage import versions
from storage.errors import StorageError
from tasks.caching.task import cached, value
from tasks.config.models import Config
from tasks.pipeline.plan import stages_json
from tasks.pipeline.report import (
    num_missing_captions,
    read_rejects,
    report_path,
    write_report,
)
from tasks.pipeline.run import StagePlan, make_version, plan_stage, seal_stage, work_partition
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageRef


def _is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a failed partition is worth another try: bad input fails again, I/O may not."""
    error = state.result(raise_on_failure=False)
    return not isinstance(error, ValueError | TypeError | StorageError)


def one_partition_at_a_time() -> Any:
    """The task runner of the data flows: partitions use all cores themselves, so one by one."""
    return ThreadPoolTaskRunner(max_workers=1)


@task(cache_policy=NO_CACHE, persist_result=False)
def plan(config: Config, stage: str, upstream: dict[str, StageRef]) -> StagePlan | StageRef:
    """Plans a stage; Cached when the store has every item."""
    planned = plan_stage(config, stage, upstream)
    if isinstance(planned, StageRef):
        found: StageRef = cached(f"reused {planned.counts.reused} items", planned)
        return found
    return planned


@task(
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=_is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def work(config: Config, stage_plan: StagePlan, number: int) -> int:
    """Makes the missing items of one partition."""
    return work_partition(config, stage_plan, number)


@task(
    retries=1,
    retry_delay_seconds=2,
    retry_condition_fn=_is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def seal(config: Config, stage_plan: StagePlan, done: list[int]) -> StageRef:
    """Writes the manifest of a stage whose partitions are done."""
    return seal_stage(config, stage_plan)


@task(cache_policy=NO_CACHE, persist_result=False)
def commit_version(config: Config, refs: dict[str, StageRef]) -> versions.Version:
    """Makes the dataset version; Cached when it would equal the latest one."""
    version, created = make_version(config, refs)
    if not created:
        version = cached(f"equals version {version.number}", version)
    return version


@task(cache_policy=NO_CACHE, persist_result=False)
def report(config: Config, version: versions.Version, refs: dict[str, StageRef]) -> str:
    """Writes the HTML report of a version; Cached when it has one."""
    store = Context(config).store
    if store.exists(report_path(version)):
        uri: str = cached("this version has its report", store.uri(report_path(version)))
        return uri
    return write_report(config, version, refs)


def run_stage(config: Config, name: str, upstream: dict[str, StageRef]) -> StageRef:
    """One stage inside a flow: plan, the missing partitions, seal."""
    planned = value(plan.with_options(name=name, task_run_name=name)(config, name, upstream))
    if isinstance(planned, StageRef):
        return planned
    futures = [
        work.with_options(
            name=f"{name}-work", task_run_name=f"{name} {number + 1}/{planned.num_partitions}"
        ).submit(config, planned, number)
        for number in range(planned.num_partitions)
    ]
    done = [future.result() for future in futures]
    sealed: StageRef = seal.with_options(name=f"{name}-seal", task_run_name=f"{name} seal")(
        config, planned, done
    )
    return sealed


def prepare(config: Config) -> tuple[versions.Version, dict[str, StageRef]]:
    """All data stages and the dataset version, inside a flow."""
    refs: dict[str, StageRef] = {}
    for stage in STAGES:
        refs[stage.name] = run_stage(config, stage.name, {up: refs[up] for up in stage.after})
    commit = commit_version.with_options(name="dataset", task_run_name="dataset")
    version = value(commit(config, refs))
    report.with_options(name="report", task_run_name="report")(config, version, refs)
    publish_counts(version, refs)
    return version, refs


def publish_counts(version: versions.Version, refs: dict[str, StageRef]) -> None:
    """The table artifact of a preparation: what every stage reused and computed, and why."""
    rows = [
        {"stage": name, **counts, "reasons": ", ".join(counts["reasons"])}
        for name, counts in stages_json({name: ref.counts for name, ref in refs.items()}).items()
    ]
    create_table_artifact(
        table=rows, key="stages", description=f"{version.name}@{version.number}: stages"
    )


def summary(
    config: Config, version: versions.Version, refs: dict[str, StageRef], seconds: float
) -> dict[str, Any]:
    """The object that `tilewright prepare --json` prints."""
    context = Context(config)
    return {
        "report": context.store.uri(report_path(version)),
        "dataset": version.summary(),
        "stages": stages_json({name: ref.counts for name, ref in refs.items()}),
        "rejects": read_rejects(context, refs).to_pylist(),
        "missing_captions": num_missing_captions(context, version),
        "seconds": round(seconds, 3),
    }
