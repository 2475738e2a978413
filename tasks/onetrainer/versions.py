"""Older layouts of OneTrainer's files, brought to that of version 11.

Keys are moved by their presence rather than by the version alone: the presets that come with
OneTrainer have no version, and neither have files that were written by hand.
"""

import copy
from collections.abc import Mapping
from typing import Any

CONFIG_VERSION = 12
"""The newest version of the configuration whose keys the tables know."""
CONCEPT_VERSION = 2

PARTS = (
    *("unet", "prior", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"),
    *("text_encoder_4", "vae", "effnet_encoder", "decoder", "decoder_text_encoder"),
    "decoder_vqgan",
)

RENAMED = {
    "save_after": "save_every",
    "save_after_unit": "save_every_unit",
    "lora_layers": "layer_filter",
    "lora_layer_preset": "layer_filter_preset",
    "lora_layers_regex": "layer_filter_regex",
    "enable_async_offloading": "async_offloading",
    "caching_threads": "dataloader_threads",
    "image_caching": "latent_caching",
    "embedding_model_names": "embedding.model_name",
    "token_count": "embedding.token_count",
    "initial_embedding_text": "embedding.initial_embedding_text",
    "weight_decay": "optimizer.weight_decay",
    **{f"train_{part}": f"{part}.train" for part in PARTS},
    **{f"{part}_learning_rate": f"{part}.learning_rate" for part in PARTS},
    **{f"{part}_weight_dtype": f"{part}.weight_dtype" for part in PARTS},
    **{f"{part}_model_name": f"{part}.model_name" for part in PARTS},
}
"""Keys of all older versions under their present names; version 12's under those of 11."""

CONCEPT_RENAMED = {"repeats": "balancing"}


def version_problem(data: Mapping[str, Any], newest: int) -> str | None:
    """What to say of a file that is newer than the tables; None where they know its version."""
    version = data.get("__version", 0)
    if isinstance(version, int) and version <= newest:
        return None
    return f"a newer layout than this import knows ({newest}); look for keys that it calls unknown"


def current_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of any version in the layout of version 11."""
    moved: dict[str, Any] = {}
    for key, value in _old_optimizer(copy.deepcopy(dict(data))).items():
        _place(moved, RENAMED.get(key, key), value)
    _stop_after_epochs(moved)
    _old_noise(moved)
    _loss_weight(moved)
    _prior(moved)
    _fan_out(moved)
    _old_format(moved)
    return moved


def current_concept(data: Mapping[str, Any]) -> dict[str, Any]:
    """A concept of any version in the layout of version 2."""
    moved = {CONCEPT_RENAMED.get(key, key): value for key, value in data.items()}
    if "validation_concept" in moved:
        is_validation = moved.pop("validation_concept")
        moved.setdefault("type", "VALIDATION" if is_validation else "STANDARD")
    return moved


def _old_optimizer(data: dict[str, Any]) -> dict[str, Any]:
    """Version 0 had the optimizer's name and its options side by side with everything else."""
    if not isinstance(data.get("optimizer"), str):
        return data
    options = [key for key in data if key.startswith("optimizer_") and key != "optimizer_defaults"]
    names = {key: f"optimizer.{key.removeprefix('optimizer_')}" for key in options}
    names["optimizer"] = "optimizer.optimizer"
    return {names.get(key, key): value for key, value in data.items()}


def _place(data: dict[str, Any], key: str, value: Any) -> None:
    """Puts a value under a dotted key, unless the file has one there under the newer name."""
    table, dot, inner = key.partition(".")
    if not dot:
        # A table that older keys have already begun is completed, the newer names winning.
        old = data.get(key)
        data[key] = value
        if isinstance(old, dict) and isinstance(value, dict):
            data[key] = {**old, **value}
    elif isinstance(data.setdefault(table, {}), dict):
        data[table].setdefault(inner, value)


def _stop_after_epochs(data: dict[str, Any]) -> None:
    for part in PARTS:
        if (epochs := data.pop(f"train_{part}_epochs", None)) is not None:
            _place(data, f"{part}.stop_training_after", epochs)
            _place(data, f"{part}.stop_training_after_unit", "EPOCH")


def _old_noise(data: dict[str, Any]) -> None:
    """Until version 4 a weight of 0 meant uniform timesteps, and the bias was counted from 0.5."""
    if data.get("__version", 0) >= 4 or "timestep_distribution" in data:
        return
    bias = data.pop("noising_bias", 0.5)
    if weight := data.pop("noising_weight", 0.0):
        distribution = {"timestep_distribution": "SIGMOID", "noising_weight": weight}
        data.update(distribution, noising_bias=bias - 0.5)


def _loss_weight(data: dict[str, Any]) -> None:
    if gamma := data.pop("min_snr_gamma", None):
        data.setdefault("loss_weight_fn", "MIN_SNR_GAMMA")
        data.setdefault("loss_weight_strength", gamma)


def _prior(data: dict[str, Any]) -> None:
    """Until version 9 the settings of a transformer were those of `prior`."""
    has_prior = str(data.get("model_type")).startswith(("STABLE_CASCADE", "WUERSTCHEN"))
    if "prior" in data and "transformer" not in data and not has_prior:
        data["transformer"] = dict(data["prior"])


def _fan_out(data: dict[str, Any]) -> None:
    """Settings that every part has today were global once."""
    dtype = data.pop("weight_dtype", None)
    checkpointing = data.pop("gradient_checkpointing", None)
    activations = data.pop("enable_activation_offloading", True)
    fraction = data.pop("layer_offload_fraction", 0.0)
    for part in PARTS:
        if part != "vae" and dtype is not None:
            _place(data, f"{part}.weight_dtype", dtype)
        table = data.get(part)
        if isinstance(table, dict) and table.get("weight_dtype") == "NONE":
            table["weight_dtype"] = dtype or "FLOAT_32"
        if checkpointing is not None:
            offloads = checkpointing == "CPU_OFFLOADED"
            _place(data, f"{part}.gradient_checkpointing", checkpointing not in (False, "OFF"))
            _place(data, f"{part}.activation_offloading", offloads and activations)
            _place(data, f"{part}.offload_fraction", fraction if offloads else 0.0)


def _old_format(data: dict[str, Any]) -> None:
    """SAFETENSORS meant the usual file of a method; today it is that of an embedding."""
    if data.get("output_model_format") in ("SAFETENSORS", "CKPT"):
        method = data.get("training_method", "FINE_TUNE")
        names = {"LORA": "LEGACY_LORA", "EMBEDDING": "SAFETENSORS"}
        data["output_model_format"] = names.get(method, "LEGACY_SAFETENSORS")
