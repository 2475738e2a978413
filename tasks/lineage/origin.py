"""Origin: which run a model on disk says that it comes from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.families.sources import BACKUP_FILE
from tasks.lineage.record import LINEAGE_FILE

IDENTITY_FILE = "run.json"
"""Which run a workspace is of, and on which version."""
METADATA_FILE = "tilewright.json"
"""In a folder: the metadata that other models keep in the header of their file."""
MAX_HEADER_BYTES = 100 * 2**20
"""What the safetensors format allows."""
RUN_ID, LINEAGE = "tilewright.run_id", "tilewright.lineage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a model tells of itself."""

    run_id: str
    lineage: str | None
    """Digest of the lineage.json that it was written with; None where it was told none."""
    metadata: dict[str, str]


def origin_of(model: Path) -> Origin:
    """What a model file, a folder of a model or of words, or a backup says of its run.

    Raises:
        ValueError: it says nothing, with the reason.
    """
    metadata = _metadata(model)
    if not metadata.get(RUN_ID):
        raise ValueError(
            "does not say which run made it: it is not Tilewright's, its metadata was removed, "
            "or an older version wrote it"
        )
    return Origin(run_id=metadata[RUN_ID], lineage=metadata.get(LINEAGE), metadata=metadata)


def is_ours(file: Path) -> bool:
    """Whether a model's file says that one of our runs wrote it."""
    try:
        return RUN_ID in _header(file)
    except ValueError:
        return False


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is the workspace of a run."""
    return (folder / IDENTITY_FILE).is_file() or (folder / LINEAGE_FILE).is_file()


def workspaces_near(model: Path, run_id: str) -> Iterator[Path]:
    """Where the workspace of a run may be: around the model, or in a store beside it."""
    here = model.absolute()
    for folder in here.parents:
        if folder.name == run_id:
            yield folder
    for folder in here.parents[:3]:
        yield from sorted(folder.glob(f"runs/{run_id}"))
        yield from sorted(folder.glob(f"*/runs/{run_id}"))


def _metadata(model: Path) -> dict[str, str]:
    if model.is_file():
        return _header(model)
    if (model / METADATA_FILE).is_file():
        return {key: str(value) for key, value in _read_json(model / METADATA_FILE).items()}
    if (model / BACKUP_FILE).is_file():
        facts = _read_json(model / BACKUP_FILE)
        return {RUN_ID: str(facts.get("run_id") or "")}
    inside = sorted(model.iterdir())
    are_words = inside and all(one.suffix == ".safetensors" for one in inside)
    return _header(inside[0]) if are_words else {}


def _header(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= MAX_HEADER_BYTES:
            raise ValueError("is no safetensors file")
        try:
            header = json.loads(file.read(size))
        except ValueError as error:
            raise ValueError(f"is no safetensors file ({error})") from error
    found = header.get("__metadata__") if isinstance(header, dict) else None
    return {str(key): str(value) for key, value in (found or {}).items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"has a damaged {path.name}: {error}") from error
    return value if isinstance(value, dict) else {}
