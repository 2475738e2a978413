"""The review gate: a deployed flow suspends until it is resumed in the Prefect UI."""

from dataclasses import dataclass
from typing import Any

import prefect.runtime
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from storage import tables
from tasks.captions.reviews import approve, pending
from tasks.config.models import Config
from tasks.stage import Context, StageRef


@dataclass(frozen=True)
class Waiting:
    """Captions that a person has yet to look at."""

    num_pending: int
    page: str
    """Where they can be looked at."""

    def as_json(self) -> dict[str, Any]:
        """The entry `review` of a command's summary."""
        return {"pending": self.num_pending, "page": self.page}


class CaptionReview(RunInput):
    """The form that resumes a suspended run: resuming it approves the captions."""

    note: str = Field(
        default="", title="Remarks", description="Kept with the approval; may stay empty."
    )


def review(config: Config, captions: StageRef, page: str) -> Waiting | None:
    """Waits, inside a flow, for a person to look at captions; None once all are approved.

    The run of a deployment is suspended here: its process ends, and resuming it in the Prefect UI
    starts the flow anew, whose stages are cached until it is here again. Texts that people wrote
    meanwhile count. A flow that somebody runs in a terminal cannot be suspended and is told how
    many captions wait.
    """
    store = Context(config).store
    manifest = tables.get_table(store, captions.manifest)
    left = pending(store, manifest).num_rows
    if not left:
        return None
    if prefect.runtime.deployment.id is None:
        return Waiting(left, page)
    told = (
        f"**{left:,} new captions** wait for you. Look at the artifact *captions* of this run, or "
        f"at the page `{page}`. To change some: `tilewright captions export`, edit, `import`.\n\n"
        "Resume this run to train on them."
    )
    answer = suspend_flow_run(
        wait_for_input=CaptionReview.with_initial_data(description=told),
        timeout=None,
        key="captions",
    )
    approve(store, manifest, answer.note)
    return None
