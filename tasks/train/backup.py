"""Backups: everything a run needs to go on exactly, in one folder that is whole or not there.

A backup is built beside its final place, synced, and renamed there. `backup.json` is written last
and lists every file with size and digest, so a damaged backup is recognised and passed over.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from storage.digest import digest_file, hexkey
from tasks.families.sources import BACKUP_FILE
from tasks.train.files import sync
from tasks.train.optimizer_state import load_state, save_state
from tasks.train.state import Progress, Training

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
OPTIMIZER_TENSORS = "optimizer.safetensors"
OPTIMIZER_VALUES = "optimizer.json"
AVERAGES = "averages.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFacts:
    """What a backup says about its run beside the counters; `read_facts` gives it back."""

    family: str
    base: str
    config_folder: str | None
    method: dict[str, Any]
    """`[train.method]`."""
    dataset: str
    dataset_digest: str
    config_digest: str
    world: int
    step_size: int
    batch_size: int
    seed: int
    run_id: str


def write_backup(folder: Path, training: Training, facts: BackupFacts) -> Path:
    """Writes a backup of the present step into `folder` and gives its path.

    A backup of the same step that is there already is replaced. OSError, for example of a full
    disk, leaves all earlier ones as they were.
    """
    final = folder / f"{training.progress.step:08}"
    temporary = folder / f".writing-{final.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write(temporary, training, facts)
        _move_into_place(temporary, final)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def restore_backup(backup: Path, training: Training) -> None:
    """Puts weights, optimizer, scaler and counters back; ValueError when they do not fit."""
    from safetensors.torch import load_file

    content = read_facts(backup)
    for part in training.parts:
        path = backup / part_file(part.name)
        if not path.is_file():
            raise ValueError(f"backup {backup} has no {part.name}: it was not trained then")
        part.restore(load_file(path))
    values = json.loads((backup / OPTIMIZER_VALUES).read_text(encoding="utf-8"))
    tensors = load_file(backup / OPTIMIZER_TENSORS)
    load_state(training.optimizer, values, tensors)
    if content["scaler"]:
        training.scaler.load_state_dict(content["scaler"])
    if training.average is not None and (backup / AVERAGES).is_file():
        averages = load_file(backup / AVERAGES)
        for number, average in enumerate(training.average.averages):
            average.copy_(averages[str(number)])
    training.progress = Progress(**{name.name: content[name.name] for name in fields(Progress)})


def read_facts(backup: Path) -> dict[str, Any]:
    """The content of backup.json."""
    content: dict[str, Any] = json.loads((backup / BACKUP_FILE).read_text(encoding="utf-8"))
    return content


def find_damage(backup: Path) -> str | None:
    """Why a backup cannot be used, or None when all its files are as they were written."""
    try:
        content = read_facts(backup)
        if content["format"] != FORMAT:
            return f"format {content['format']}, this version reads {FORMAT}"
        for name, facts in content["files"].items():
            if _describe(backup / name) != facts:
                return f"{name} is not as it was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def newest_backup(
    folder: Path, on_damage: Callable[[str], None] = lambda text: None
) -> Path | None:
    """The newest valid backup in `folder`; damaged ones are passed over and told `on_damage`."""
    for backup in reversed(list_backups(folder)):
        damage = find_damage(backup)
        if damage is None:
            return backup
        on_damage(f"backup {backup} is damaged and was passed over: {damage}")
    return None


def list_backups(folder: Path) -> list[Path]:
    """The backups in `folder` by step, oldest first, valid or not; never half-written ones."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())


def keep_newest(folder: Path, keep: int) -> None:
    """Deletes backups older than the newest `keep` complete ones, and our half-written leftovers.

    Only folders that hold a backup.json of ours are deleted, and never a file of anybody else.
    """
    complete = [path for path in list_backups(folder) if (path / BACKUP_FILE).is_file()]
    for path in complete[: max(len(complete) - keep, 0)]:
        # backup.json goes first: what is left of an interrupted deletion is no backup.
        names = [BACKUP_FILE, *read_facts(path)["files"]]
        for name in names:
            (path / name).unlink(missing_ok=True)
        if not any(path.iterdir()):
            path.rmdir()
    for leftover in (*folder.glob(".writing-*"), *folder.glob(".replaced-*")):
        shutil.rmtree(leftover, ignore_errors=True)


def part_file(name: str) -> str:
    """The file of a part's weights; a placeholder may have signs that no file name can have."""
    return f"{quote(name, safe='')}.safetensors"


def _write(folder: Path, training: Training, facts: BackupFacts) -> None:
    folder.mkdir(parents=True)
    for part in training.parts:
        _save(folder / part_file(part.name), part.state())
    if training.average is not None:
        averages = {str(n): one for n, one in enumerate(training.average.averages)}
        _save(folder / AVERAGES, averages)
    _save_optimizer(folder, training)
    content = {
        "format": FORMAT,
        **asdict(facts),
        **asdict(training.progress),
        "scaler": training.scaler.state_dict(),
        "files": {path.name: _describe(path) for path in sorted(folder.iterdir())},
    }
    (folder / BACKUP_FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def _save(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    from safetensors.torch import save_file

    # Shared tensors (tied weights) become copies: the format holds no references.
    kept, seen = {}, set()
    for name, tensor in tensors.items():
        shared = tensor.data_ptr() in seen
        seen.add(tensor.data_ptr())
        kept[name] = tensor.detach().clone() if shared else tensor.detach().contiguous()
    save_file(kept, path)


def _save_optimizer(folder: Path, training: Training) -> None:
    """The optimizer's state as tensors and plain values: no pickle is ever written or read."""
    from safetensors.torch import save_file

    values, tensors = save_state(training.optimizer)
    save_file(tensors, folder / OPTIMIZER_TENSORS)
    (folder / OPTIMIZER_VALUES).write_text(json.dumps(values), encoding="utf-8")


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "blake3": hexkey(digest_file(file))}


def _move_into_place(temporary: Path, final: Path) -> None:
    if final.exists():
        replaced = final.with_name(f".replaced-{final.name}-{os.getpid()}")
        final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced)
    else:
        temporary.rename(final)
    sync(final.parent)
