"""The report of a run: its workspace, read for `tasks.report` and written as one HTML page."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from storage.errors import StorageError
from storage.store import Store
from tasks.families.sources import BACKUP_FILE
from tasks.lineage.origin import IDENTITY_FILE
from tasks.report.run_history import History, read_history
from tasks.report.run_page import Kept, Run, build_run_page
from tasks.train.backup import list_backups
from tasks.train.events import EVENTS_FILE, EventReader, read_status
from tasks.train.files import write_atomically

REPORT_FILE = "report.html"
REPORT_ERRORS = (OSError, StorageError, ValueError, LookupError, TypeError)
"""What a workspace raises that is damaged, of another Tilewright, or on a full disk."""


def is_run(folder: Path) -> bool:
    """Whether a folder is the workspace of a run that was started."""
    return (folder / IDENTITY_FILE).is_file() or (folder / EVENTS_FILE).is_file()


def write_report(workspace: Path, store: Store | None = None) -> Path:
    """Writes report.html into a workspace, from what is there, and gives its path.

    Args:
        workspace: the folder of the run.
        store: where a copy of the run is, if that is not this machine's disk.

    Raises:
        One of REPORT_ERRORS: The workspace is damaged, or the page cannot be written.
    """
    page = build_run_page(read_run(workspace)).encode()
    path = workspace / REPORT_FILE
    write_atomically(path, page)
    if store is not None and not store.is_local:
        store.replace(f"runs/{workspace.name}/{REPORT_FILE}", page)
    return path


def read_run(workspace: Path, history: History | None = None) -> Run:
    """What the files of a workspace tell of its run.

    Args:
        workspace: the folder of the run.
        history: what its events tell, if that is known already.
    """
    if history is None:
        history = read_history(EventReader(workspace / EVENTS_FILE).read())
    identity = _read_json(workspace / IDENTITY_FILE)
    name, number = identity.get("dataset"), identity.get("version")
    return Run(
        run_id=workspace.absolute().name,
        workspace=str(workspace.absolute()),
        state=str(read_status(workspace).get("state", "")),
        history=history,
        config=_read_json(workspace / "config.json"),
        dataset=f"{name}@{number}" if name else "",
        dataset_digest=str(identity.get("dataset_digest", "")),
        kept=list(_kept(workspace)),
        images=_images(workspace, history),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _kept(workspace: Path) -> Iterator[Kept]:
    """Models first, then backups, the newest first of each."""
    for path in sorted(workspace.glob("output/*")):
        if not path.name.startswith("."):
            yield _described("output", None, path, workspace)
    for path in sorted(workspace.glob("saves/step-*"), reverse=True):
        yield _described("save", int(path.name.removeprefix("step-")), path, workspace)
    for path in reversed(list_backups(workspace / "backups")):
        if (path / BACKUP_FILE).is_file():
            yield _described("backup", int(path.name), path, workspace)


def _described(kind: str, step: int | None, path: Path, workspace: Path) -> Kept:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return Kept(
        kind=kind,
        step=step,
        path=path.relative_to(workspace).as_posix(),
        num_bytes=sum(one.stat().st_size for one in files),
        made_at=path.stat().st_mtime,
    )


def _images(workspace: Path, history: History) -> Mapping[int, Mapping[int, Path]]:
    """Of the steps that count; files are named by the number and the words of their prompt."""
    found: dict[int, dict[int, Path]] = {}
    for step in sorted(history.samples):
        folder = workspace / "samples" / f"step-{step:08}"
        images = {int(path.name[:2]): path for path in sorted(folder.glob("[0-9][0-9]*.png"))}
        if images:
            found[step] = images
    return found
