"""The Prefect task of training: a child process group that is watched, retried and resumed."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from storage.versions import Version
from tasks import progress
from tasks.artifacts.task import shown_progress
from tasks.caching.task import cached, value
from tasks.config.models import Config
from tasks.gpu.task import gpu_slot
from tasks.train.events import Event
from tasks.train.runner import TrainingCrashed, run_training
from tasks.train.runs import Reuse, choose_run, export_output, is_finished, resumed_run
from tasks.train.spec import TrainSpec
from tasks.train.summary import summarize

FIRST_RETRY_SECONDS = 5


def _may_resume(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a training that ended should be started again from its last backup."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TrainingCrashed) and error.resumable and not error.interrupted


@task(retry_condition_fn=_may_resume, cache_policy=NO_CACHE, persist_result=False)
def train_run(spec: TrainSpec, *, may_be_cached: bool) -> dict[str, Any]:
    """Trains, or goes on from the newest backup; Cached when this very run is finished."""
    if may_be_cached and is_finished(spec.workspace):
        summary = summarize(spec, seconds=0.0) | {"reused": True}
        done: dict[str, Any] = cached(f"run {spec.run_id} is finished", summary)
        return done
    with gpu_slot(spec.config), shown_progress():
        return run_training(spec, on_event=_tell(spec))


def train(
    config: Config,
    version: Version,
    *,
    resume: str | None = None,
    new_data: bool = False,
    stop_after_steps: int | None = None,
    reuse: Reuse = "crashed",
) -> dict[str, Any]:
    """Trains on a dataset version, inside a flow; gives the object `tilewright train` prints."""
    stops_early = stop_after_steps is not None
    if resume is not None:
        workspace = resumed_run(config, version, resume, new_data)
    else:
        workspace = choose_run(config, version, reuse="never" if stops_early else reuse)
    spec = TrainSpec(
        config=config,
        store=config.store.url,
        dataset=version.name,
        version=version.number,
        run_id=workspace.name,
        workspace=workspace,
        stop_after_steps=stop_after_steps,
        new_data=new_data,
    )
    delays: list[float] = [FIRST_RETRY_SECONDS * 2**n for n in range(config.train.retries)]
    run = train_run.with_options(
        name="train",
        task_run_name="train",
        retries=config.train.retries,
        retry_delay_seconds=delays,
    )
    may_be_cached = resume is None and not stops_early
    summary: dict[str, Any] = value(run(spec, may_be_cached=may_be_cached))
    outputs = [str(path) for path in summary["outputs"]]
    if outputs:
        copies = export_output(workspace, Path(config.model.output))
        outputs = [*map(str, copies), *outputs]
    made = {"dataset": version.summary(), "outputs": outputs}
    return {"reused": False} | summary | made


def _tell(spec: TrainSpec) -> Callable[[Event], None]:
    """Passes events on to the progress display and the log of the task run."""
    logger, ours = get_run_logger(), logging.getLogger("tilewright.train")
    logger.info("workspace %s", spec.workspace)

    total_steps = 0

    def tell(event: Event) -> None:
        nonlocal total_steps
        if event["event"] == "step":
            progress.report("train", event["step"], total_steps, "steps")
        elif event["event"] == "message":
            logger.warning("%s", event["text"])
        elif event["event"] == "start":
            total_steps = event["total_steps"]
            if event["resumed_from"]:
                ours.warning("training goes on after step %d of a backup", event["step"])
        elif event["event"] == "epoch":
            changes = [sum(event[name].values()) for name in ("repeated", "dropped")]
            told = "epoch %d: %d steps, %d entries trained once more, %d dropped"
            logger.info(told, event["epoch"], event["steps"], *changes)
        elif event["event"] in ("backup", "sample"):
            logger.info("%s at step %d", event["event"], event["step"])
        else:
            logger.info("%s", event)

    return tell
