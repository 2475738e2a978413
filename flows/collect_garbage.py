"""The flow that frees the space of what no dataset version needs any more."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.form import field
from flows.gc_command import place_of
from tasks.caching.task import value
from tasks.gc.roots import Rules
from tasks.gc.task import collect_store


@flow(name="collect-garbage", persist_result=False)
def collect_garbage(
    config_or_store: Annotated[
        str, field("Configuration or store", "The TOML file of a run, or the place of a store.")
    ],
    keep_versions: Annotated[
        int, Field(ge=1), field("Versions to keep", "The newest ones of each dataset.")
    ] = 3,
    grace_hours: Annotated[
        float, Field(ge=0), field("Grace period", "Hours until what was marked is deleted.")
    ] = 24.0,
    captions: Annotated[
        bool, field("Captions too", "Generated captions that no kept version needs go as well.")
    ] = False,
    dry_run: Annotated[
        bool, field("Dry run", "Only say what would go; mark and delete nothing.")
    ] = True,
) -> dict[str, Any]:
    """Delete what an earlier run marked and nobody needs still, then mark what nobody needs now."""
    url, workspace = place_of(config_or_store)
    rules = Rules(keep_versions=keep_versions, grace_hours=grace_hours, captions=captions)
    run = collect_store.with_options(name="collect", task_run_name="collect")
    folder: Path | None = workspace
    told: dict[str, Any] = value(run(url, rules, folder, dry_run=dry_run))
    return told
