"""Stability AI's modelspec 1.0.1: what a model is, in the header of its file."""

from collections.abc import Sequence
from datetime import UTC, datetime

from tasks.config.methods import Adapter, Method
from tasks.families.base import Family

PREFIX = "modelspec."
_IMPLEMENTATIONS = {
    "diffusers": "diffusers",
    "original": "https://github.com/Stability-AI/generative-models",
}
_PREDICTION_TYPES = {"epsilon": "epsilon", "v_prediction": "v", "flow": "flow"}


def modelspec_metadata(
    family: Family,
    prediction: str,
    method: Method,
    title: str,
    finished_at: float,
    resolution: str,
) -> dict[str, str]:
    """The keys with their prefix; `prediction` is a key of `family.architectures`."""
    edges = resolution.split(",")[0].strip()
    is_adapter = isinstance(method, Adapter)
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": family.architectures[prediction] + _kind(method),
        "implementation": _IMPLEMENTATIONS[family.kohya_names or "diffusers"]
        if is_adapter
        else "diffusers",
        "title": title,
        "date": datetime.fromtimestamp(finished_at, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "resolution": edges if "x" in edges else f"{edges}x{edges}",
        "prediction_type": _PREDICTION_TYPES[prediction],
    }
    return {f"{PREFIX}{key}": value for key, value in spec.items()}


def words_metadata(words: Sequence[str]) -> dict[str, str]:
    """What says which words call up what was trained."""
    if not words:
        return {}
    names = ", ".join(words)
    return {f"{PREFIX}trigger_phrase": names, f"{PREFIX}trained_words": names}


def _kind(method: Method) -> str:
    if isinstance(method, Adapter):
        return "/lora"
    return "/textual-inversion" if method.kind == "embedding" else ""
