"""Headers of finished files: kohya's `ss_*` keys, and hashes over everything."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Adapter, LoraMethod, Method
from tasks.families.base import Family
from tasks.families.sources import ModelSource, read_config
from tasks.train.formats.modelspec import modelspec_metadata, words_metadata

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a file should tell about its training. Times are seconds since 1970.

    None of it may hold an absolute path: files are given to others.
    """

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
    epoch: int = 0
    """Epochs finished."""
    batches_per_epoch: int = 0
    num_prior_images: int = 0
    """Of concepts for prior preservation."""
    part_learning_rates: Mapping[str, float] = field(default_factory=dict)
    """Trained part (denoiser, text_encoder_1, ...) to its rate."""
    gradient_accumulation_steps: int = 1
    clip_skip: int = 0
    """Layers of the text encoder that are left out."""
    noise_offset: float = 0.0
    max_grad_norm: float | None = None
    caption_dropout: float = 0.0
    min_snr_gamma: float | None = None
    session_id: str = ""
    comment: str = ""
    aspect_ratio_bucketing: bool = True
    bucket_counts: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Bucket (width, height) in pixels to its number of samples."""
    concepts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Concept to its facts: `n_repeats`, `img_count`."""
    tag_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Concept to tag to the number of samples that have it; `count_tags` makes it."""
    words: Sequence[str] = ()
    """Placeholders of textual inversion."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """More keys, for example `tilewright.dataset`."""


def build_metadata(
    family: Family, source: ModelSource, facts: RunFacts, method: Method
) -> dict[str, str]:
    """The header of a finished model; ValueError for a model whose objective has no name here."""
    prediction = _prediction(family, source)
    return (
        modelspec_metadata(
            family, prediction, method, facts.title, facts.finished_at, facts.resolution
        )
        | words_metadata(facts.words)
        | _texts(_model(family, source, prediction) | _run(facts) | _data(facts))
        | _texts(_network(method))
        | dict(facts.extra)
    )


def count_tags(prompts: Sequence[str]) -> dict[str, int]:
    """Tag to the number of prompts that have it; tags are what commas divide, as kohya counts."""
    counts: dict[str, int] = {}
    for prompt in prompts:
        for tag in dict.fromkeys(part.strip() for part in prompt.split(",")):
            if tag:
                counts[tag] = counts.get(tag, 0) + 1
    return counts


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


def _prediction(family: Family, source: ModelSource) -> str:
    if family.objective == "flow":
        return "flow"
    prediction = str(read_config(source, "scheduler").get("prediction_type", "epsilon"))
    if prediction not in family.architectures:
        raise ValueError(
            f"{source.folder}: prediction_type {prediction!r} of the scheduler is not supported; "
            f"allowed: {', '.join(sorted(family.architectures))}"
        )
    return prediction


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The keys of kohya's tools with their values as text; tables are JSON."""
    return {
        f"ss_{key}": json.dumps(value) if isinstance(value, dict) else str(value)
        for key, value in values.items()
    }


def _model(family: Family, source: ModelSource, prediction: str) -> dict[str, Any]:
    version = family.base_model_versions[prediction]
    return {
        "base_model_version": version,
        "sd_model_name": source.name.rstrip("/").rsplit("/", 1)[-1],
        "v2": version.startswith("sd_v2"),
    }


def _run(facts: RunFacts) -> dict[str, Any]:
    rates = dict(facts.part_learning_rates)
    encoders = {name: rate for name, rate in rates.items() if name.startswith("text_encoder")}
    return {
        "output_name": facts.title,
        "session_id": facts.session_id,
        "training_comment": facts.comment or None,
        "training_started_at": facts.started_at,
        "training_finished_at": facts.finished_at,
        "steps": facts.steps,
        "max_train_steps": facts.max_steps,
        "num_epochs": facts.epochs,
        "epoch": facts.epoch,
        "learning_rate": facts.learning_rate,
        "unet_lr": rates.get("denoiser", None if rates else facts.learning_rate),
        "text_encoder_lr": next(iter(encoders.values()), None),
        "batch_size_per_device": facts.batch_size,
        "gradient_accumulation_steps": facts.gradient_accumulation_steps,
        "seed": facts.seed,
        "optimizer": facts.optimizer,
        "lr_scheduler": facts.schedule,
        "mixed_precision": facts.mixed_precision,
        "clip_skip": facts.clip_skip or None,
        "noise_offset": facts.noise_offset or None,
        "max_grad_norm": facts.max_grad_norm,
        "caption_dropout_rate": facts.caption_dropout,
        "min_snr_gamma": facts.min_snr_gamma,
    }


def _data(facts: RunFacts) -> dict[str, Any]:
    buckets = {
        str(number): {"resolution": list(size), "count": count}
        for number, (size, count) in enumerate(sorted(facts.bucket_counts.items()))
    }
    return {
        "resolution": facts.resolution,
        "enable_bucket": facts.aspect_ratio_bucketing,
        "bucket_info": {"buckets": buckets} if buckets else None,
        "num_train_images": facts.num_images,
        "num_reg_images": facts.num_prior_images,
        "num_batches_per_epoch": facts.batches_per_epoch,
        # Concepts stand for kohya's folders: names, never paths.
        "dataset_dirs": {name: dict(values) for name, values in facts.concepts.items()},
        "tag_frequency": {name: dict(counts) for name, counts in facts.tag_counts.items()},
    }


def _network(method: Method) -> dict[str, Any]:
    if not isinstance(method, Adapter):
        return {}
    arguments: dict[str, Any] = {} if method.kind == "lora" else {"algo": method.kind}
    if isinstance(method, LoraMethod) and method.dora:
        arguments["dora_wd"] = True
    return {
        "network_module": "networks.lora" if method.kind == "lora" else "lycoris.kohya",
        "network_dim": method.rank,
        "network_alpha": method.alpha,
        "network_args": arguments or None,
    }
