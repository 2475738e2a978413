"""Captions as a person sees them: the sheet, and the gate that waits for a review of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import prefect.runtime
import pyarrow as pa
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from storage import tables
from storage.digest import digest_json, hexkey
from tasks.caching.task import cached, value
from tasks.captions.reviews import approve, pending
from tasks.captions.sheet_markdown import markdown_sheet
from tasks.config.models import Config
from tasks.crops.drops import Named, drop, named_views
from tasks.pages.markdown import escaped
from tasks.pipeline.caption_sheet import collect_sheet, current_sheet, write_sheet
from tasks.pipeline.captions import captioned_of
from tasks.stage import Context, StageRef

UP_TO = ("scan", "prompts", "crops", "captions")
"""The stages that a sheet is made of."""


@dataclass(frozen=True)
class Waiting:
    """Captions that a person has yet to look at."""

    num_pending: int
    page: str
    """Where they can be looked at."""

    def as_json(self) -> dict[str, Any]:
        """The entry `review` of a command's summary."""
        return {"pending": self.num_pending, "page": self.page}


@dataclass(frozen=True)
class Dropped:
    """A person took tiles out of training: the stages from the crops on have other items now."""


class CaptionReview(RunInput):
    """The form that resumes a suspended run: resuming it approves all captions but the dropped."""

    drop: str = Field(
        default="",
        title="Tiles to drop",
        description="Their numbers, as the sheet of captions shows them; they are not trained on.",
        json_schema_extra={"position": 0},
    )
    note: str = Field(
        default="", title="Remarks", description="Kept with the approval; may stay empty."
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def caption_sheet(config: Config, refs: Mapping[str, StageRef]) -> str:
    """Writes the page of all captions, and an artifact with some; Cached when nothing changed."""
    store = Context(config).store
    made_of = hexkey(digest_json("sheet", [refs[name].manifest for name in UP_TO]))
    if there := current_sheet(config, made_of):
        uri: str = cached("the sheet of captions is as it was", there)
        return uri
    manifests = {name: tables.get_table(store, refs[name].manifest) for name in UP_TO}
    sheet = collect_sheet(config, captioned_of(config, manifests), made_of=made_of)
    create_markdown_artifact(
        markdown=markdown_sheet(sheet), key="captions", description=f"{config.data.name}: captions"
    )
    return write_sheet(config, sheet)


def as_reviewed(config: Config) -> Config:
    """The configuration of a flow run that may have been resumed after a review.

    A resumed run starts from the top. What was to be made anew was, before anybody looked at it; a
    caption that was approved must not be replaced unseen.
    """
    again = {*UP_TO} & {*config.refresh}
    if not (config.review_captions and again and _was_suspended()):
        return config
    kept = tuple(stage for stage in config.refresh if stage not in again)
    return config.model_copy(update={"refresh": kept})


def _was_suspended() -> bool:
    """Whether this flow run has waited for a person before."""
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(prefect.runtime.flow_run.id)
    return any(state.is_paused() for state in states)


def look_at_captions(config: Config, refs: Mapping[str, StageRef]) -> Waiting | Dropped | None:
    """The sheet of captions, inside a flow, and the gate where `review_captions` asks for it.

    None when the flow may go on; nothing happens where there are no captions.
    """
    captions = refs["captions"]
    if not (captions.num_items or captions.rejects):
        return None
    sheet = caption_sheet.with_options(task_run_name="caption sheet")
    page: str = value(sheet(config, {name: refs[name] for name in UP_TO}))
    return review(config, refs, page) if config.review_captions else None


def review(config: Config, refs: Mapping[str, StageRef], page: str) -> Waiting | Dropped | None:
    """Waits, inside a flow, for a person to look at captions; None once all are approved.

    The run of a deployment is suspended here: its process ends, and resuming it in the Prefect UI
    starts the flow anew, whose stages are cached until it is here again. Texts that people wrote
    meanwhile count. A flow that somebody runs in a terminal cannot be suspended and is told how
    many captions wait.
    """
    store = Context(config).store
    manifest = tables.get_table(store, refs["captions"].manifest)
    waiting = pending(store, manifest)
    if not waiting.num_rows:
        return None
    if prefect.runtime.deployment.id is None:
        return Waiting(waiting.num_rows, page)
    views = tables.get_table(store, refs["crops"].manifest, ["key"])["key"].to_pylist()
    answer, named = _answer(views, waiting, page)
    changed = drop(store, named.views)
    approve(store, manifest, answer.note)
    return Dropped() if changed else None


def _answer(views: list[bytes], waiting: pa.Table, page: str) -> tuple[CaptionReview, Named]:
    """Suspends the run until it is resumed with a form whose numbers are all known.

    In the resumed process each question that was answered before gives its answer at once; captions
    that came meanwhile are another question.
    """
    keys = sorted(map(hexkey, waiting["key"].to_pylist()))
    trouble, asked = "", hexkey(digest_json("review", keys))
    for number in count(1):
        told = (
            f"{trouble}**{len(keys):,} new captions** wait for you. Look at the artifact "
            f"*captions* of this run, or at the page `{page}`. To change some: "
            "`tilewright captions export`, edit, `import`.\n\nResume this run to train on them."
        )
        answer = suspend_flow_run(
            wait_for_input=CaptionReview.with_initial_data(description=told),
            timeout=None,
            key=f"captions-{asked[:12]}-{number}",
        )
        named = named_views(views, re.findall(r"[^\s,;]+", answer.drop))
        if not named.unknown:
            return answer, named
        wrong = ", ".join(escaped(name, 40) for name in named.unknown[:10])
        trouble = f"**No tile has the number {wrong}; nothing was dropped.** "
    raise AssertionError("unreachable: the loop ends by an answer")
