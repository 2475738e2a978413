"""Where a base model is: a diffusers folder, a single file, the hub, or a backup of ours.

Nothing here imports torch or diffusers: planning a run must stay fast.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.families.base import Family

SINGLE_FILE_SUFFIXES = (".safetensors", ".ckpt")
PIPELINE_FILE = "model_index.json"
BACKUP_FILE = "backup.json"
_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_CONFIG_PATTERNS = [
    f"{folder}*.{suffix}" for folder in ("", "*/") for suffix in ("json", "txt", "model", "jinja")
]
_WEIGHT_PATTERNS = [*_CONFIG_PATTERNS, "*/*.safetensors"]


@dataclass(frozen=True)
class ModelSource:
    """A base model that was found: `resolve_model` makes these."""

    kind: Literal["diffusers", "single_file", "hub", "backup"]
    family: str
    path: Path
    """The folder (for `hub`: its local snapshot) or the file."""
    config_folder: Path | None = None
    """single_file: the diffusers folder with configs, tokenizers and scheduler."""
    name: str = ""
    """As the user wrote it."""
    base: "ModelSource | None" = None
    """backup: the model that the run started from."""

    @property
    def folder(self) -> Path:
        """The diffusers folder that has the configs, tokenizers and the scheduler."""
        if self.base is not None:
            return self.base.folder
        return self.path if self.config_folder is None else self.config_folder


class NotDownloadedError(ValueError):
    """A hub model that must be downloaded first, by a command that may take its time."""


def resolve_model(
    base: str, family: Family, config_folder: str | None = None, *, download: bool = True
) -> ModelSource:
    """Find the base model; ValueError says what is missing and what to do.

    A hub name is downloaded into the hub's own cache when it is not there yet; without `download`
    that is a NotDownloadedError.
    """
    path = Path(base).expanduser()
    if path.is_dir():
        if (path / BACKUP_FILE).is_file():
            return _backup(path, base, family, config_folder, download)
        _check_folder(path, family)
        return ModelSource("diffusers", family.name, path, name=base)
    if path.is_file():
        return _single_file(path, base, family, config_folder, download)
    if not _HUB_NAME.fullmatch(base) or path.suffix in SINGLE_FILE_SUFFIXES:
        raise ValueError(
            f"`model.base`: nothing exists at {base!r}; {_nearest(path)}"
            "give a diffusers folder, a .safetensors or .ckpt file, a hub name (owner/model) "
            "or a backup folder of an earlier run"
        )
    why = f"`model.base`: {base!r} is no file or folder here"
    folder = _snapshot(base, _WEIGHT_PATTERNS, why, download)
    _check_folder(folder, family)
    return ModelSource("hub", family.name, folder, name=base)


def read_config(source: ModelSource, component: str) -> dict[str, Any]:
    """The JSON config of a component (`vae`, `unet`, `scheduler`, ...), without its weights."""
    folder = source.folder / component
    for name in ("config.json", "scheduler_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            return _read_json(folder / name)
    raise ValueError(f"{folder}: this model has no {component!r} (no config.json there)")


def read_backup(source: ModelSource) -> dict[str, Any]:
    """The facts of a backup: its family, base, method and files."""
    return _read_json(source.path / BACKUP_FILE)


def backup_weights(source: ModelSource, family: Family, component: str) -> Path | None:
    """The file with what was trained of a component; None when it stayed as it was."""
    parts = {family.denoiser: "denoiser", **{one.model: one.name for one in family.text_encoders}}
    if component not in parts:
        return None
    file = source.path / f"{parts[component]}.safetensors"
    return file if file.is_file() else None


def _single_file(
    path: Path, base: str, family: Family, config_folder: str | None, download: bool
) -> ModelSource:
    if path.suffix.lower() not in SINGLE_FILE_SUFFIXES:
        raise ValueError(
            f"`model.base`: {base!r} is a file of an unknown kind; allowed: "
            f"{', '.join(SINGLE_FILE_SUFFIXES)}"
        )
    if not family.single_file_prefixes:
        raise ValueError(
            f"`model.base`: {base!r} is a single file, and {family.name} cannot be read from one; "
            "give a diffusers folder, a hub name (owner/model) or a backup folder of an earlier run"
        )
    if config_folder is not None:
        folder = Path(config_folder).expanduser()
        if not folder.is_dir():
            raise ValueError(
                f"`model.config_folder`: no folder exists at {config_folder!r}; {_nearest(folder)}"
            )
    elif family.config_repo is None:
        raise ValueError(
            f"`model.base`: the file {base!r} does not say whether it predicts epsilon or v; set "
            "`model.config_folder` to a diffusers folder of this model (weights are not needed)"
        )
    else:
        folder = _snapshot(
            family.config_repo,
            [*_CONFIG_PATTERNS, *(f"{name}/*.safetensors" for name in _beside_file(family))],
            f"{base!r} needs what {family.config_repo} has beside it",
            download,
        )
    _check_folder(folder, family)
    return ModelSource("single_file", family.name, path, config_folder=folder, name=base)


def _beside_file(family: Family) -> list[str]:
    """The weights that a single file lacks: FLUX.1 and SD 3 are published as transformers alone."""
    models = ["vae", family.denoiser, *(one.model for one in family.text_encoders)]
    return [name for name in models if name not in family.single_file_prefixes]


def _backup(
    path: Path, base: str, family: Family, config_folder: str | None, download: bool
) -> ModelSource:
    facts = _read_json(path / BACKUP_FILE)
    missing = [name for name in facts.get("files", ()) if not (path / name).is_file()]
    if missing or "method" not in facts:
        what = f"{missing[0]} is missing" if missing else "an older version of Tilewright wrote it"
        raise ValueError(f"{path}: this backup cannot be used: {what}")
    if facts.get("family") != family.name:
        raise ValueError(
            f"{path}: this backup is of family {facts.get('family')!r}; "
            f"`model.family` is {family.name!r}"
        )
    try:
        origin = resolve_model(
            str(facts["base"]),
            family,
            config_folder or facts.get("config_folder"),
            download=download,
        )
    except ValueError as error:
        raise ValueError(f"{path}: the model this backup started from is gone: {error}") from error
    return ModelSource("backup", family.name, path, name=base, base=origin)


def _check_folder(folder: Path, family: Family) -> None:
    index = folder / PIPELINE_FILE
    if not index.is_file():
        inside = sorted(
            found.parent.relative_to(folder).as_posix()
            for name in (PIPELINE_FILE, BACKUP_FILE)
            for pattern in (f"*/{name}", f"*/*/{name}")
            for found in folder.glob(pattern)
        )
        hint = f"; models inside it: {', '.join(inside[:5])}" if inside else ""
        raise ValueError(f"{folder}: no diffusers model, {PIPELINE_FILE} is missing{hint}")
    name = str(_read_json(index).get("_class_name"))
    if name != family.pipeline:
        raise ValueError(
            f"{folder}: this is a {name}, but family {family.name!r} is a {family.pipeline}; "
            "set `model.family` to the family of this model"
        )


def _snapshot(repo: str, patterns: list[str], why: str, download: bool) -> Path:
    # huggingface_hub looks into its cache first when it is offline, and keeps what it has.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if not download and not constants.HF_HUB_OFFLINE:
        try:
            return Path(snapshot_download(repo, allow_patterns=patterns, local_files_only=True))
        except LocalEntryNotFoundError as error:
            raise NotDownloadedError(
                f"the hub's {repo!r} is not on this machine yet: `tilewright prepare` downloads it"
            ) from error
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        detail = str(error).strip().splitlines()
        raise ValueError(
            f"{why}, and the hub's {repo!r} is neither in the local cache nor reachable "
            f"({type(error).__name__}: {detail[0] if detail else 'no detail'}). Check the name and "
            "the network (HF_HUB_OFFLINE must not be 1), or give the path of a local model "
            "and, for a single file, `model.config_folder`"
        ) from error


def _nearest(path: Path) -> str:
    """`did you mean ...? ` for the nearest name beside a missing path, or nothing."""
    parent = path.parent
    missing = path.name
    while not parent.is_dir() and parent != parent.parent:
        parent, missing = parent.parent, parent.name
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    close = difflib.get_close_matches(missing, names, n=1, cutoff=0.5)
    return f"did you mean {str(parent / close[0])!r}? " if close else ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return dict(value)
