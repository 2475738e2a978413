"""Headers of finished files: kohya's `ss_*` keys and Stability's modelspec 1.0.1."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.families.base import Family
from tasks.families.sources import ModelSource, read_config

if TYPE_CHECKING:
    from torch import Tensor

_IMPLEMENTATIONS = {
    "diffusers": "diffusers",
    "original": "https://github.com/Stability-AI/generative-models",
}
_PREDICTION_TYPES = {"epsilon": "epsilon", "v_prediction": "v"}


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a file should tell about its training. Times are seconds since 1970."""

    title: str
    resolution: str
    """As in `data.resolution`."""
    started_at: float
    finished_at: float
    steps: int
    max_steps: int
    epochs: int
    num_images: int
    learning_rate: float
    batch_size: int
    seed: int
    optimizer: str
    schedule: str
    mixed_precision: str
    extra: Mapping[str, str] = field(default_factory=dict)
    """More keys, for example `tilewright.dataset`."""


def build_metadata(
    family: Family, source: ModelSource, facts: RunFacts, lora: tuple[int, float] | None
) -> dict[str, str]:
    """The header of a finished model; `lora` is (rank, alpha), None for a whole model."""
    prediction = str(read_config(source, "scheduler").get("prediction_type", "epsilon"))
    if prediction not in family.architectures:
        raise ValueError(
            f"{source.folder}: prediction_type {prediction!r} of the scheduler is not supported; "
            f"allowed: {', '.join(sorted(family.architectures))}"
        )
    return (
        _modelspec(family, facts, prediction, is_lora=lora is not None)
        | _training(family, source, facts, prediction)
        | ({} if lora is None else _network(*lora))
        | dict(facts.extra)
    )


def hash_metadata(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> dict[str, str]:
    """Hashes by which model managers recognise a file, whatever is in the rest of its header."""
    from safetensors.torch import save

    kept = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    content = save(dict(tensors), kept)
    data = content[8 + int.from_bytes(content[:8], "little") :]
    value = hashlib.sha256(data).hexdigest()
    return {
        "sshs_model_hash": value,
        "sshs_legacy_hash": hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8],
        "modelspec.hash_sha256": f"0x{value}",
    }


def _modelspec(
    family: Family, facts: RunFacts, prediction: str, *, is_lora: bool
) -> dict[str, str]:
    architecture = family.architectures[prediction]
    edges = facts.resolution.split(",")[0].strip()
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/lora" if is_lora else architecture,
        "implementation": _IMPLEMENTATIONS[family.kohya_names] if is_lora else "diffusers",
        "title": facts.title,
        "date": datetime.fromtimestamp(facts.finished_at, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "resolution": edges if "x" in edges else f"{edges}x{edges}",
        "prediction_type": _PREDICTION_TYPES[prediction],
    }
    return {f"modelspec.{key}": value for key, value in spec.items()}


def _training(
    family: Family, source: ModelSource, facts: RunFacts, prediction: str
) -> dict[str, str]:
    values = {
        "base_model_version": family.base_model_versions[prediction],
        "sd_model_name": source.name.rstrip("/").rsplit("/", 1)[-1],
        "v2": family.base_model_versions[prediction].startswith("sd_v2"),
        "output_name": facts.title,
        "resolution": facts.resolution,
        "training_started_at": facts.started_at,
        "training_finished_at": facts.finished_at,
        "steps": facts.steps,
        "max_train_steps": facts.max_steps,
        "num_epochs": facts.epochs,
        "num_train_images": facts.num_images,
        "learning_rate": facts.learning_rate,
        "unet_lr": facts.learning_rate,
        "batch_size_per_device": facts.batch_size,
        "seed": facts.seed,
        "optimizer": facts.optimizer,
        "lr_scheduler": facts.schedule,
        "mixed_precision": facts.mixed_precision,
        "clip_skip": None,
    }
    return {f"ss_{key}": str(value) for key, value in values.items()}


def _network(rank: int, alpha: float) -> dict[str, str]:
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
    }
