"""`tilewright report` of a training run: its page, made anew from what its workspace tells."""

import tempfile
from pathlib import Path
from typing import Any

from flows.command_outcome import refuse, say
from flows.dataset_rows import existing_store
from flows.web_page import open_page
from storage.store import Store
from tasks.config.loading import load_config
from tasks.train.report import REPORT_ERRORS, REPORT_FILE, is_run, write_report
from tasks.train.runs import runs_folder

LATEST = "latest"


def find_run_report(place: str, run: str | None, *, open_it: bool) -> dict[str, Any]:
    """The summary of the command.

    Args:
        place: a run's folder, a TOML file, or the place of a store.
        run: a run_id, or `latest`; None where `place` is a run's folder.
        open_it: show the page in a browser.

    Raises:
        ConfigError: there is no such store or run, or its page cannot be made.
    """
    if run is None:
        store, workspace = None, Path(place)
    else:
        store, workspace = _named_run(place, run)
    try:
        page = write_report(workspace, store)
    except REPORT_ERRORS as error:
        refuse("--run", f"its report cannot be made: {error}", str(workspace))
    if open_it:
        open_page(page)
    is_remote = store is not None and not store.is_local
    where = store.uri(f"runs/{workspace.name}/{REPORT_FILE}") if store and is_remote else None
    return {"report": where or str(page.absolute()), "made": True, "run_id": workspace.name}


def _named_run(place: str, run: str) -> tuple[Store, Path]:
    """The store and the workspace of a run; a copy where it is not on this machine."""
    folder, name = None, None
    if place.endswith(".toml"):
        config = load_config(place, checks=False)
        store, name = existing_store(config.store.url), config.data.name
        folder = runs_folder(config)
    else:
        store = existing_store(place)
        folder = store.local_path("runs")
    here = {path.name for path in folder.glob("*") if is_run(path)} if folder else set[str]()
    kept = set() if store.is_local else {path.split("/")[1] for path in store.list("runs")}
    run_id = _chosen(run, sorted(here | kept), name)
    if folder is not None and run_id in here:
        return store, folder / run_id
    return store, _fetched(store, run_id)


def _chosen(run: str, there: list[str], name: str | None) -> str:
    """The run_id that is meant: `latest` is the newest run, of a config that of its dataset."""
    # A run_id begins with its time: 20261126-200608-NAME-0bce1d.
    fitting = [one for one in there if name in (None, one[16:-7])]
    if run == LATEST and fitting:
        return fitting[-1]
    if run not in there:
        known = ", ".join(there[-10:]) or "none yet; `tilewright train` makes one"
        refuse("--run", f"there is no such run; runs: {known}", run)
    return run


def _fetched(store: Store, run_id: str) -> Path:
    """A copy of what a report is made of; weights stay where they are."""
    workspace = Path(tempfile.mkdtemp(prefix="tilewright-")) / run_id
    say(f"fetching run {run_id} from {store.url}")
    for path in store.list(f"runs/{run_id}"):
        inner = Path(path).relative_to(f"runs/{run_id}")
        if inner.suffix in (".json", ".jsonl") or inner.parts[0] == "samples":
            (workspace / inner).parent.mkdir(parents=True, exist_ok=True)
            store.fetch_file(path, workspace / inner)
    return workspace
