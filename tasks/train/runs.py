"""Runs: the folders of training runs, and which of them a command goes on with."""

import json
import logging
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import psutil

from storage.digest import digest_file, digest_json, hexkey
from storage.errors import NotFoundError
from storage.store import Store, open_store
from storage.versions import Version
from tasks.config.models import Config
from tasks.lineage.origin import IDENTITY_FILE, METADATA_FILE, is_ours
from tasks.train.events import STATUS_FILE, read_status
from tasks.train.files import write_atomically
from tasks.train.formats.embedding import words_folder
from tasks.train.mirror import all_but_models, fetch_run

_LOG = logging.getLogger("tilewright.train")
NOT_THE_MODEL = {
    *("retries", "grace_seconds", "timeout_hours", "device", "halve_batch_on_oom"),
    *("backup", "save", "validation", "sample"),
}
"""Keys of `[train]` that a trained model does not depend on."""
Reuse = Literal["never", "crashed", "any"]
"""Which runs of the same key are gone on with: none, those that ended by accident, or also those
that were stopped or are finished."""


def runs_folder(config: Config) -> Path:
    """Where the workspaces of training runs are: in the store when that is a local folder."""
    local = open_store(config.store.url).local_path("runs")
    return local or Path(config.workspace)


def run_key(config: Config, version: Version) -> str:
    """Equal for two runs that would give the same model: same data, same settings of training."""
    identity: dict[str, object] = {
        "dataset": version.content_digest,
        "model": config.model.model_dump(mode="json", exclude={"output"}),
        "parts": config.parts.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json", exclude=NOT_THE_MODEL),
        "remainder": config.data.remainder,
    }
    prior = [concept.name for concept in config.concepts if concept.type == "prior_prediction"]
    if prior:
        identity["prior"] = sorted(prior)
    initial = getattr(config.train.method, "initial", None)
    if initial is not None:
        # What a file holds counts, not its name.
        identity["initial"] = _content_of(Path(initial))
    if not config.data.latent_caching:
        # What later epochs look like is in no row then, but in the settings of the version.
        identity["settings"] = version.meta["config"]["digest"]
    return hexkey(digest_json("run", identity))


def _content_of(path: Path) -> str:
    """Digest of a file, or of the weights in a backup."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    with ExitStack() as stack:
        opened = [stack.enter_context(file.open("rb")) for file in files]
        return "-".join(hexkey(digest_file(file)) for file in opened)


def choose_run(config: Config, version: Version, *, reuse: Reuse) -> Path:
    """The workspace to train in: one to go on with, or a new one."""
    folder, key = runs_folder(config), run_key(config, version)
    for workspace in reversed(list(_runs_with_key(folder, key))):
        if _may_continue(workspace, reuse):
            require_newest(config, workspace)
            return workspace
    if reuse != "never" and (fetched := _fetched_from_store(config, folder, key, reuse)):
        return fetched
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{config.data.name}-{secrets.token_hex(3)}"
    workspace = folder / run_id
    workspace.mkdir(parents=True)
    _write_identity(workspace, key, version)
    return workspace


def resumed_run(config: Config, version: Version, run_id: str, new_data: bool) -> Path:
    """The workspace of a run to go on with; from now on it is a run on `version`.

    Raises:
        ValueError: there is no such run, or it trains on other data and may not change them.
    """
    workspace = named_run(config, version, run_id, new_data)
    if _identity(workspace)["dataset_digest"] != version.content_digest:
        _write_identity(workspace, run_key(config, version), version)
    return workspace


def named_run(config: Config, version: Version, run_id: str, new_data: bool = False) -> Path:
    """The workspace of a run by its id.

    Raises:
        ValueError: there is no such run, or it trains on other data and `new_data` is not set.
    """
    folder = runs_folder(config)
    workspace = folder / run_id
    if not (workspace / IDENTITY_FILE).exists() and run_id in _runs_elsewhere(config, folder):
        fetch_run(open_store(config.store.url), run_id, workspace, all_but_models)
    if not (workspace / IDENTITY_FILE).exists():
        known = ", ".join(path.name for path in _runs(folder)) or "none yet"
        raise ValueError(f"there is no run {run_id!r} in {folder}; runs: {known}")
    require_newest(config, workspace)
    identity = _identity(workspace)
    if identity["dataset_digest"] != version.content_digest and not new_data:
        raise ValueError(
            f"run {run_id} trains on {identity['dataset']}@{identity['version']}, and "
            f"{version.name}@{version.number} has other content. Go on with "
            f"--dataset {identity['dataset']}@{identity['version']}, go on with the new data by "
            "--new-data (its epoch starts anew), or start a new run."
        )
    return workspace


def _runs_elsewhere(config: Config, folder: Path) -> list[str]:
    """The runs in a store that is on no disk of ours, but for those that this machine has."""
    store = open_store(config.store.url)
    if store.is_local:
        return []
    pattern = re.compile(rf"runs/([^/]+)/{re.escape(IDENTITY_FILE)}")
    there = [found[1] for name in store.list("runs") if (found := pattern.fullmatch(name))]
    return sorted(run for run in there if not (folder / run / IDENTITY_FILE).exists())


def _fetched_from_store(config: Config, folder: Path, key: str, reuse: Reuse) -> Path | None:
    """The newest run that another machine began and that may be gone on with here, brought over.

    One that its machine did not end may still be at work there: only a person can know.
    """
    store = open_store(config.store.url)
    for run_id in reversed(_runs_elsewhere(config, folder)):
        if _read_elsewhere(store, run_id, IDENTITY_FILE).get("run_key") != key:
            continue
        status = _read_elsewhere(store, run_id, STATUS_FILE)
        if status.get("state") in (None, "running"):
            told = "run %s has the same settings and was begun on another machine, which may still "
            _LOG.warning(told + "work on it; if not, go on with it by --resume %s", run_id, run_id)
        elif reuse == "any" or status["state"] not in ("done", "stopped"):
            fetch_run(store, run_id, folder / run_id, all_but_models)
            return folder / run_id
    return None


def require_newest(config: Config, workspace: Path) -> None:
    """Whether this machine has the newest state of a run that it goes on with.

    What another machine has added since would be lost: the copy in the store follows this one.

    Raises:
        ValueError: it has not.
    """
    store = open_store(config.store.url)
    if store.is_local:
        return
    there = _read_elsewhere(store, workspace.name, STATUS_FILE).get("step") or 0
    here = read_status(workspace).get("step") or 0
    if int(str(there)) > int(str(here)):
        raise ValueError(
            f"run {workspace.name} is at step {here} in {workspace}, and at step {there} in the "
            "store: another machine went on with it. Move this folder away to go on from there"
        )


def _read_elsewhere(store: Store, run_id: str, name: str) -> dict[str, object]:
    """A JSON file of a run in the store, {} when there is none."""
    try:
        content: dict[str, object] = json.loads(store.read_bytes(f"runs/{run_id}/{name}"))
    except NotFoundError:
        return {}
    return content


def _write_identity(workspace: Path, key: str, version: Version) -> None:
    identity: dict[str, object] = {
        "run_key": key,
        "dataset": version.name,
        "version": version.number,
        "dataset_digest": version.content_digest,
    }
    write_atomically(workspace / IDENTITY_FILE, json.dumps(identity, indent=2).encode())


def is_finished(workspace: Path) -> bool:
    """Whether a run has trained to its end and its model is still there."""
    return read_status(workspace).get("state") == "done" and finished_model(workspace) is not None


def finished_model(workspace: Path) -> Path | None:
    """The model that a run has written, whatever the configuration called it then."""
    written = sorted(path for path in workspace.glob("output/*") if path.name[0] != ".")
    words = {words_folder(path) for path in written}
    return next((path for path in written if path not in words), None)


def export_output(workspace: Path, destination: Path) -> list[Path]:
    """Copies the finished model, and its words, to where the configuration wants it.

    Something else of that name is never overwritten: then the copy gets the run's name added. A
    model that an earlier run of ours wrote there is replaced. Gives where the copies are.
    """
    made = finished_model(workspace)
    if made is None:
        raise ValueError(f"run {workspace.name} has no finished model to write to {destination}")
    if destination.exists() and not _made_by_a_run(destination):
        destination = destination.with_name(
            f"{destination.stem}-{workspace.name}{destination.suffix}"
        )
    copies = [_copied(made, destination)]
    if (words := words_folder(made)).is_dir():
        place = words_folder(destination)
        if place.exists() and not _made_by_a_run(place):
            place = place.with_name(f"{place.name}-{workspace.name}")
        copies.append(_copied(words, place))
    return copies


def _copied(made: Path, destination: Path) -> Path:
    """Copies a file or folder, over what a run of ours wrote there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    aside = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")
    if made.is_dir():
        shutil.copytree(made, aside)
        if destination.exists():
            shutil.rmtree(destination)
    else:
        shutil.copyfile(made, aside)
    return aside.rename(destination)


def _identity(workspace: Path) -> dict[str, object]:
    identity: dict[str, object] = json.loads((workspace / IDENTITY_FILE).read_text("utf-8"))
    return identity


def _runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{IDENTITY_FILE}"))


def _runs_with_key(folder: Path, key: str) -> Iterator[Path]:
    for workspace in _runs(folder):
        if _identity(workspace).get("run_key") == key:
            yield workspace


def _may_continue(workspace: Path, reuse: Reuse) -> bool:
    status = read_status(workspace)
    state = status.get("state")
    if reuse == "never":
        return False
    if state in ("done", "stopped"):
        return reuse == "any" and (state == "stopped" or is_finished(workspace))
    if state == "running":
        return not _is_alive(status)
    return state is None or bool(status.get("resumable", True))


def _is_alive(status: dict[str, object]) -> bool:
    try:
        process = psutil.Process(int(str(status["pid"])))
        return abs(process.create_time() - float(str(status["create_time"]))) < 1
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False


def _made_by_a_run(path: Path) -> bool:
    """Whether a model says that one of our runs wrote it."""
    if path.is_dir():
        inside = list(path.iterdir())
        words = all(one.suffix == ".safetensors" and _made_by_a_run(one) for one in inside)
        return (path / METADATA_FILE).is_file() or (bool(inside) and words)
    return is_ours(path)
