"""The Prefect task of garbage collection, and the table that shows what it found."""

from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.errors import InUseError
from storage.store import open_store
from tasks.caching.task import cached
from tasks.gc.collect import as_json, collect
from tasks.gc.roots import Rules

RETRIES, RETRY_SECONDS = 6, 600
"""A preparation that is at work is waited for so long."""


def _is_in_use(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), InUseError)


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_is_in_use,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def collect_store(url: str, rules: Rules, workspace: Path | None, *, dry_run: bool) -> Any:
    """Deletes what was marked a grace period ago, and marks the rest; Cached if there is nothing.

    Gives the object that `tilewright gc --json` prints.
    """
    store, act = open_store(url, create=False), not dry_run
    told = as_json(collect(store, rules, workspace=workspace, mark=act, delete=act))
    create_table_artifact(
        table=told["garbage"]["groups"], key="garbage", description=f"garbage in {url}"
    )
    if not (told["garbage"]["files"] or (told["deleted"] or {}).get("files")):
        return cached("there is no garbage", told)
    return told
