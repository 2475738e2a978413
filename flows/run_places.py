"""Runs by their id: in a configuration's folder of workspaces, in a store, or copied out of one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.command_outcome import refuse, say
from flows.dataset_rows import existing_store
from storage.store import Store
from tasks.config.loading import load_config
from tasks.train.mirror import fetch_run
from tasks.train.report import is_run
from tasks.train.runs import runs_folder

LATEST = "latest"
Wanted = Callable[[Path], bool]
"""Whether a file of a run is wanted, by its path inside the workspace."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a store and of the folder of workspaces that belongs to it."""

    store: Store
    folder: Path | None
    """Where workspaces of this machine are."""
    here: set[str]
    """The ids of those."""
    kept: set[str]
    """The ids of runs that the store has a copy of."""
    dataset: str | None
    """Of the configuration, if one was given."""

    def all(self) -> list[str]:
        """The ids of all runs, the oldest first."""
        return sorted(self.here | self.kept)

    def fitting(self) -> list[str]:
        """The ids of all runs, of a configuration those on its dataset, the oldest first."""
        # A run_id begins with its time: 20261126-200608-NAME-0bce1d.
        return [one for one in self.all() if self.dataset in (None, one[16:-7])]


def find_runs(place: str) -> Runs:
    """The runs of a TOML file or of the place of a store; ConfigError if there is no store."""
    name = None
    if place.endswith(".toml"):
        config = load_config(place, checks=False)
        store, name = existing_store(config.store.url), config.data.name
        folder: Path | None = runs_folder(config)
    else:
        store = existing_store(place)
        folder = store.local_path("runs")
    here = {path.name for path in folder.glob("*") if is_run(path)} if folder else set[str]()
    kept = set() if store.is_local else {path.split("/")[1] for path in store.list("runs")}
    return Runs(store, folder, here, kept, name)


def named_run(runs: Runs, run: str, key: str, into: Path, wanted: Wanted) -> Path:
    """The workspace of a run; a copy of some of its files where it is not on this machine.

    Args:
        runs: the runs to choose from.
        run: a run_id, or `latest`: the newest run, of a config that of its dataset.
        key: which argument named it.
        into: a folder for a copy.
        wanted: the files to copy.
    """
    there, fitting = runs.all(), runs.fitting()
    run_id = fitting[-1] if run == LATEST and fitting else run
    if run_id not in there:
        known = ", ".join(there[-10:]) or "none yet; `tilewright train` makes one"
        refuse(key, f"there is no such run; runs: {known}", run)
    if runs.folder is not None and run_id in runs.here:
        return runs.folder / run_id
    return copied_run(runs.store, run_id, into, wanted)


def copied_run(store: Store, run_id: str, into: Path, wanted: Wanted) -> Path:
    """A folder with some files of a run of a store, brought up to date."""
    workspace = into / run_id
    if not workspace.exists():
        say(f"fetching run {run_id} from {store.url}")
        workspace.mkdir(parents=True)
    fetch_run(store, run_id, workspace, wanted)
    return workspace
