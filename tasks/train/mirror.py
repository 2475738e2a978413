"""A copy of a workspace in the store, for stores that are not on this machine.

Under `runs/<run_id>/`. A backup's `backup.json` goes last and is deleted first, so that a backup
in the store is whole or not there.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from storage.store import Store
from tasks.families.sources import BACKUP_FILE
from tasks.lineage.origin import IDENTITY_FILE
from tasks.train.backup import list_backups

_BIG_BYTES = 32 << 20
_LINK = ".mirror-"


def mirror(store: Store, run_id: str, workspace: Path) -> None:
    """Brings `runs/<run_id>/` of the store to what the workspace is now."""
    for leftover in workspace.glob(f"{_LINK}*"):
        leftover.unlink()
    prefix = f"runs/{run_id}"
    present = store.list(prefix)
    backups = list_backups(workspace / "backups")
    for backup in backups:
        _send_backup(store, f"{prefix}/backups/{backup.name}", backup, present)
    _drop_old_backups(store, prefix, {backup.name for backup in backups}, present)
    for path in _other_files(workspace):
        name = path.relative_to(workspace).as_posix()
        # Logs only grow, pictures and rows of a lineage stay, so their size tells; a model may
        # change at equal size.
        grows = name.endswith((".jsonl", ".log", ".png", ".parquet"))
        grows = grows or name.startswith("tensorboard/")
        if not grows or present.get(f"{prefix}/{name}") != path.stat().st_size:
            _send(store, f"{prefix}/{name}", path, workspace)


def fetch_run(store: Store, run_id: str, workspace: Path, wanted: Callable[[Path], bool]) -> None:
    """Copies files of a run out of a store; those that have their size already are left.

    The file that makes a folder a run comes last.

    Args:
        store: that has a copy of the run.
        run_id: the run.
        workspace: the folder for it.
        wanted: says by its path inside the workspace whether a file is wanted.
    """
    prefix, fetched = f"runs/{run_id}", workspace / f".fetching-{os.getpid()}"
    found = store.list(prefix).items()
    for path, num_bytes in sorted(found, key=lambda item: item[0].endswith(f"/{IDENTITY_FILE}")):
        inner = Path(path).relative_to(prefix)
        file = workspace / inner
        if wanted(inner) and not (file.is_file() and file.stat().st_size == num_bytes):
            file.parent.mkdir(parents=True, exist_ok=True)
            store.fetch_file(path, fetched)
            fetched.replace(file)


def all_but_models(inner: Path) -> bool:
    """What a machine needs of a run to go on with it, besides a backup."""
    return inner.parts[0] not in ("backups", "saves")


def fetch_newest_backup(store: Store, run_id: str, workspace: Path) -> Path | None:
    """Copies the newest backup of a run out of the store, for a machine that has none."""
    prefix = f"runs/{run_id}/backups"
    present = store.list(prefix)
    steps = sorted(name.split("/")[-2] for name in present if name.endswith(f"/{BACKUP_FILE}"))
    if not steps:
        return None
    final = workspace / "backups" / steps[-1]
    if final.exists():
        return final
    temporary = final.with_name(f".writing-{final.name}-{os.getpid()}")
    temporary.mkdir(parents=True, exist_ok=True)
    for name in present:
        if name.split("/")[-2] == steps[-1]:
            store.fetch_file(name, temporary / name.split("/")[-1])
    temporary.rename(final)
    return final


def _send_backup(store: Store, name: str, backup: Path, present: dict[str, int]) -> None:
    manifest = backup / BACKUP_FILE
    if not manifest.is_file():
        return
    sent = f"{name}/{BACKUP_FILE}"
    if sent in present:
        if store.read_bytes(sent) == manifest.read_bytes():
            return
        store.delete(sent)
    for path in sorted(backup.iterdir(), key=lambda path: path == manifest):
        _send(store, f"{name}/{path.name}", path, backup.parents[1])


def _send(store: Store, name: str, path: Path, workspace: Path) -> None:
    """Copies a file into the store, over what is there; a big one is never read into memory."""
    if path.stat().st_size < _BIG_BYTES:
        store.replace(name, path.read_bytes())
        return
    store.delete(name)
    # publish_file moves: give it a second name of the file.
    link = workspace / f"{_LINK}{uuid4().hex}"
    os.link(path, link)
    try:
        store.publish_file(link, name)
    finally:
        link.unlink(missing_ok=True)


def _drop_old_backups(store: Store, prefix: str, keep: set[str], present: dict[str, int]) -> None:
    old = [
        name
        for name in present
        if name.startswith(f"{prefix}/backups/") and name.split("/")[-2] not in keep
    ]
    for name in sorted(old, key=lambda name: not name.endswith(f"/{BACKUP_FILE}")):
        store.delete(name)


def _other_files(workspace: Path) -> Iterator[Path]:
    for path in sorted(workspace.rglob("*")):
        parts = path.relative_to(workspace).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and parts[0] != "backups" and not hidden and parts[0] != "spec.json":
            yield path
