"""The Prefect task of training: a child process group that is watched, retried and resumed."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from storage.store import open_store
from storage.versions import Version
from tasks import progress
from tasks.artifacts.task import LiveArtifacts, shown_progress
from tasks.caching.task import cached, value
from tasks.config.models import Config
from tasks.gpu.task import gpu_slot
from tasks.lineage.record import lineage_digest
from tasks.lineage.task import emit_model_asset
from tasks.report.run_board import board_link, board_markdown
from tasks.report.run_history import History
from tasks.report.run_markdown import files_table, loss_markdown, samples_markdown
from tasks.train.events import EVENTS_FILE, Event, EventReader
from tasks.train.report import REPORT_ERRORS, REPORT_FILE, read_run, write_report
from tasks.train.runner import TrainingCrashed, run_training
from tasks.train.runs import Reuse, choose_run, export_output, is_finished, resumed_run
from tasks.train.spec import TrainSpec
from tasks.train.summary import summarize

LOG = logging.getLogger("tilewright.train")
"""Also shown in terminals, unlike the log of a task run."""
FIRST_RETRY_SECONDS = 5
BOARD, BOARD_VARIABLE = "tensorboard", "TILEWRIGHT_TENSORBOARD_URL"
LOSS, SAMPLES, FILES = "train-loss", "train-samples", "train-files"
"""The keys of the artifacts; each run is one entry in the history of a key."""
SHOWN_AFTER: Mapping[str, set[str]] = {
    "backup": {LOSS, FILES},
    "save": {LOSS, FILES},
    "validation": {LOSS},
    "sample": {LOSS, SAMPLES},
    "failed": {LOSS},
    "done": {LOSS, SAMPLES, FILES},
}
"""Which artifacts an event changes."""
SHOWN_SECONDS = 10.0
"""Artifacts are brought up to date no more often: the server stores each text whole."""


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
    tell = _tell(spec)
    show_board(spec)
    with shown_run(spec) as show, gpu_slot(spec.config), shown_progress():

        def on_event(event: Event) -> None:
            tell(event)
            show(event)

        return run_training(spec, on_event=on_event, should_cancel=_should_end(spec))


def _should_end(spec: TrainSpec) -> Callable[[], bool]:
    """Whether a training is to end with a backup: its time is over, or its worker is gone."""
    hours, is_alone = spec.config.train.timeout_hours, _worker_watch()
    ends_at = math.inf if hours is None else time.monotonic() + hours * 3600
    told = False

    def should_end() -> bool:
        nonlocal told
        if time.monotonic() < ends_at:
            return is_alone()
        if not told:
            LOG.warning("train.timeout_hours = %g is over: the training ends with a backup", hours)
        told = True
        return True

    return should_end


def _worker_watch() -> Callable[[], bool]:
    """Whether the worker that started this flow run is gone; never for a command.

    Nobody could cancel such a training any more, or see that it ran: it ends with a backup.
    """
    if "PREFECT__FLOW_RUN_ID" not in os.environ:
        return lambda: False
    worker = os.getppid()
    return lambda: os.getppid() != worker


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
        if not summary.get("reused"):
            facts = {name: summary[name] for name in ("run_id", "steps")}
            emit_model_asset(copies[0], version, facts | {"lineage": lineage_digest(workspace)})
        outputs = [*map(str, copies), *outputs]
    made = {"dataset": version.summary(), "outputs": outputs}
    if (workspace / REPORT_FILE).is_file():
        made["run_report"] = str((workspace / REPORT_FILE).absolute())
    return {"reused": False} | summary | made


def show_board(spec: TrainSpec) -> None:
    """The artifact that leads to the TensorBoard of a run: a link where one is served, else how."""
    told = f"{spec.run_id}: TensorBoard"
    link = board_link(os.environ.get(BOARD_VARIABLE, ""), spec.run_id)
    with suppress(httpx.HTTPError):
        if link is not None:
            create_link_artifact(link, link_text=told, key=BOARD, description=told)
        else:
            text = board_markdown(str(spec.workspace.absolute()), spec.store, spec.run_id)
            create_markdown_artifact(text, key=BOARD, description=told)


@contextmanager
def shown_run(spec: TrainSpec) -> Iterator[Callable[[Event], None]]:
    """Shows a run in artifacts while it trains; writes its report when it ends, well or badly.

    Gives what takes the events of the run.
    """
    shown = _ShownRun(spec)
    try:
        yield shown.take
    except TrainingCrashed:
        shown.finish()
        raise
    shown.finish()


class _ShownRun:
    """The artifacts of a run, brought up to date when there is more to be seen than a step."""

    def __init__(self, spec: TrainSpec) -> None:
        self._spec = spec
        self._artifacts = LiveArtifacts()
        self._stale: set[str] = set()
        self._due = 0.0
        self._history = History()
        with _passed_over("the earlier part of the curves"):
            for event in EventReader(spec.workspace / EVENTS_FILE).read():
                self._history.add(event)

    def take(self, event: Event) -> None:
        """Takes over one event."""
        with _passed_over(f"what the event {event['event']} adds to the curves"):
            self._history.add(event)
        self._stale |= SHOWN_AFTER.get(event["event"], set())
        if self._stale and time.monotonic() >= self._due:
            self._show()

    def finish(self) -> None:
        """Shows what is not shown yet, and writes the report."""
        self._show()
        with _passed_over("the report"):
            store = open_store(self._spec.store, create=False)
            write_report(self._spec.workspace, store)

    def _show(self) -> None:
        with _passed_over("the artifacts"):
            run = read_run(self._spec.workspace, self._history)
            told = f"{run.run_id}: step {run.history.last_step:,}"
            if LOSS in self._stale and run.history.steps:
                self._artifacts.markdown(LOSS, loss_markdown(run), told)
            if SAMPLES in self._stale and run.images:
                self._artifacts.markdown(SAMPLES, samples_markdown(run), told)
            if FILES in self._stale and run.kept:
                self._artifacts.table(FILES, files_table(run), told)
        self._stale.clear()
        self._due = time.monotonic() + SHOWN_SECONDS


@contextmanager
def _passed_over(what: str) -> Iterator[None]:
    """A training does not fail because it cannot be shown."""
    try:
        yield
    except REPORT_ERRORS as error:
        LOG.warning("%s of the run could not be shown: %s", what, error)


def _tell(spec: TrainSpec) -> Callable[[Event], None]:
    """Passes events on to the progress display and the log of the task run."""
    logger = get_run_logger()
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
                LOG.warning("training goes on after step %d of a backup", event["step"])
        elif event["event"] == "epoch":
            changes = [sum(event[name].values()) for name in ("repeated", "dropped")]
            told = "epoch %d: %d steps, %d entries trained once more, %d dropped"
            logger.info(told, event["epoch"], event["steps"], *changes)
        elif event["event"] in ("backup", "sample"):
            logger.info("%s at step %d", event["event"], event["step"])
        else:
            logger.info("%s", event)

    return tell
