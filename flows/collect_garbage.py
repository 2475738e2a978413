"""The flow that frees the space of what no dataset version needs any more."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.gc_command import place_of
from tasks.caching.task import value
from tasks.gc.roots import Rules
from tasks.gc.task import collect_store


@flow(name="collect-garbage", persist_result=False)
def collect_garbage(
    config_or_store: str,
    keep_versions: int = 3,
    grace_hours: float = 24.0,
    captions: bool = False,
    dry_run: bool = True,
) -> dict[str, Any]:
    """Delete what an earlier run marked and nobody needs still, then mark what nobody needs now.

    Args:
        config_or_store: The TOML file of a run, or the place of a store.
        keep_versions: So many of the newest versions of each dataset are kept.
        grace_hours: What was marked is deleted after so many hours.
        captions: Generated captions that no kept version needs go too.
        dry_run: Only say what would go; mark and delete nothing.
    """
    url, workspace = place_of(config_or_store)
    rules = Rules(keep_versions=keep_versions, grace_hours=grace_hours, captions=captions)
    run = collect_store.with_options(name="collect", task_run_name="collect")
    folder: Path | None = workspace
    told: dict[str, Any] = value(run(url, rules, folder, dry_run=dry_run))
    return told
