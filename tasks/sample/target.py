"""Target: what `tilewright sample` draws with, from a run's folder, a model or a LoRA file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config.models import Config
from tasks.families import FAMILIES, get_family
from tasks.families.base import Family
from tasks.families.sources import BACKUP_FILE, PIPELINE_FILE, ModelSource, resolve_model
from tasks.imaging.buckets import parse_resolutions

EDGE_PX = 1024
"""What stock pipelines draw with models whose configs do not say: transformers since FLUX.1."""


@dataclass(frozen=True)
class Target:
    """A model to draw with and, for a LoRA, the file that goes on top."""

    source: ModelSource
    family: Family
    lora: Path | None
    size: tuple[int, int]
    """Default (width, height) of an image in pixels."""
    folder: Path
    """Where images go when nothing else is said."""


def find_target(run_or_model: str, base: str | None) -> Target:
    """Understands a run's folder, a backup, a model (folder, file or hub name) or a LoRA file.

    Args:
        run_or_model: what to draw with.
        base: the base model; needed for a LoRA file, which does not hold one.

    Raises:
        ValueError: nothing usable is there; says what to give instead.
    """
    path = Path(run_or_model)
    if (path / "config.json").is_file() and (path / "run.json").is_file():
        return _run(path)
    if path.suffix == ".safetensors" and path.is_file() and _is_lora(path):
        if base is None:
            raise ValueError(f"{path} is a LoRA: name the model it is for with --base")
        return _model(base, path)
    return _model(run_or_model, None)


def _run(workspace: Path) -> Target:
    text = (workspace / "config.json").read_text(encoding="utf-8")
    config = Config.model_validate(json.loads(text))
    family = get_family(config.model.family)
    base = resolve_model(config.model.base, family, config.model.config_folder)
    output = workspace / "output" / Path(config.model.output).name
    lora = output if output.is_file() else None
    if output.is_dir():
        base = resolve_model(str(output), family)
    elif lora is None:
        backups = sorted(workspace.glob(f"backups/*/{BACKUP_FILE}"))
        if not backups:
            raise ValueError(f"run {workspace.name} has neither a finished model nor a backup yet")
        base = resolve_model(str(backups[-1].parent), family, config.model.config_folder)
    first = parse_resolutions(config.data.resolution)[0]
    return Target(base, family, lora, (first.width, first.height), workspace / "samples" / "drawn")


def _model(name: str, lora: Path | None) -> Target:
    family = _family_of(Path(name))
    source = resolve_model(name, family)
    edge = _native_edge(source, family)
    return Target(source, family, lora, (edge, edge), Path("samples"))


def _family_of(path: Path) -> Family:
    """The family of a model folder or backup, by what its files say."""
    if (path / BACKUP_FILE).is_file():
        return get_family(_read(path / BACKUP_FILE)["family"])
    if (path / PIPELINE_FILE).is_file():
        pipeline = _read(path / PIPELINE_FILE)["_class_name"]
        for family in FAMILIES.values():
            if family.pipeline == pipeline:
                return family
        raise ValueError(f"{path} is a {pipeline}; known families: {', '.join(FAMILIES)}")
    raise ValueError(
        f"cannot draw with {str(path)!r}: give a run's folder, a diffusers folder, a backup, or a "
        "LoRA file together with --base"
    )


def _native_edge(source: ModelSource, family: Family) -> int:
    """The edge in pixels of what a stock pipeline draws when nothing is said."""
    cells = _read(source.folder / family.denoiser / "config.json").get("sample_size")
    return cells * family.latent_factor if cells else EDGE_PX


def _is_lora(path: Path) -> bool:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return any("lora" in name for name in header)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
