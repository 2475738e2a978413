"""A copy of a workspace in the store, for stores that are not on this machine.

Under `runs/<run_id>/`. A backup's `backup.json` goes last and is deleted first, so that a backup
in the store is whole or not there.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from storage.store import Store
from tasks.families.sources import BACKUP_FILE
from tasks.train.backup import list_backups


def mirror(store: Store, run_id: str, workspace: Path) -> None:
    """Brings `runs/<run_id>/` of the store to what the workspace is now."""
    prefix = f"runs/{run_id}"
    present = store.list(prefix)
    backups = list_backups(workspace / "backups")
    for backup in backups:
        if f"{prefix}/backups/{backup.name}/{BACKUP_FILE}" not in present:
            _send_backup(store, prefix, backup, present)
    _drop_old_backups(store, prefix, {backup.name for backup in backups}, present)
    for path in _other_files(workspace):
        name = f"{prefix}/{path.relative_to(workspace).as_posix()}"
        # Logs and events only grow, images and models never change: size tells.
        if present.get(name) != path.stat().st_size or path.name in ("config.json", "status.json"):
            store.replace(name, path.read_bytes())


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


def _send_backup(store: Store, prefix: str, backup: Path, present: dict[str, int]) -> None:
    files = sorted(backup.iterdir(), key=lambda path: path.name == BACKUP_FILE)
    for path in files:
        name = f"{prefix}/backups/{backup.name}/{path.name}"
        if name in present:
            store.delete(name)
        # publish_file moves: it gets a second name of the file.
        link = path.with_name(f".mirror-{uuid4().hex}")
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
