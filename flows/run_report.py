"""`tilewright report` of a training run: its page, made anew from what its workspace tells."""

import tempfile
from pathlib import Path
from typing import Any

from flows.command_outcome import refuse
from flows.run_places import find_runs, named_run
from flows.web_page import open_page
from storage.store import Store
from tasks.train.report import REPORT_ERRORS, REPORT_FILE, write_report


def find_run_report(place: str, run: str | None, *, open_it: bool) -> dict[str, Any]:
    """The summary of the command.

    Args:
        place: a run's folder, a TOML file, or the place of a store.
        run: a run_id, or `latest`; None where `place` is a run's folder.
        open_it: show the page in a browser.

    Raises:
        ConfigError: there is no such store or run, or its page cannot be made.
    """
    store: Store | None = None
    workspace = Path(place)
    if run is not None:
        runs = find_runs(place)
        copy = Path(tempfile.mkdtemp(prefix="tilewright-"))
        store, workspace = runs.store, named_run(runs, run, "--run", copy, _is_read)
    try:
        page = write_report(workspace, store)
    except REPORT_ERRORS as error:
        refuse("--run", f"its report cannot be made: {error}", str(workspace))
    if open_it:
        open_page(page)
    is_remote = store is not None and not store.is_local
    where = store.uri(f"runs/{workspace.name}/{REPORT_FILE}") if store and is_remote else None
    return {"report": where or str(page.absolute()), "made": True, "run_id": workspace.name}


def _is_read(inner: Path) -> bool:
    """Whether a report is made of a file of a run."""
    return inner.suffix in (".json", ".jsonl") or inner.parts[0] == "samples"
