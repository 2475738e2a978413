"""LoRA files in diffusers' layout: what they say about the layers of a model."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family
from tasks.families.sources import ModelSource
from tasks.train.formats.layers import split_layers
from tasks.train.formats.lora_names import diffusers_prefixes
from tasks.train.formats.skeleton import adaptable_shapes, build_skeleton

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.train.formats.layers import Alphas, Parts

_METADATA = "lora_adapter_metadata"
"""The key under which `save_lora_weights` of diffusers keeps peft's settings as JSON."""
_FORMER = {
    r"\.processor\.to_out_lora\.": ".to_out.0.lora.",
    r"\.processor\.(to_[qkv])_lora\.": r".\1.lora.",
    r"\.lora(_linear_layer)?\.down\.": ".lora_A.",
    r"\.lora(_linear_layer)?\.up\.": ".lora_B.",
}
"""Names that diffusers had before it had peft's, and that its training scripts still write."""


def peft_name(name: str) -> str:
    """The present name of a tensor in diffusers' layout."""
    for pattern, present in _FORMER.items():
        name = re.sub(pattern, present, name)
    return name


def read_diffusers(
    tensors: "Mapping[str, Tensor]",
    header: Mapping[str, str],
    family: Family,
    source: ModelSource,
) -> "tuple[Parts, Alphas]":
    """The layers of each part, and the alphas that the header knows."""
    components = {component: part for part, component in diffusers_prefixes(family).items()}
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        component, _, rest = peft_name(name).partition(".")
        if component not in components:
            raise ValueError(
                f"{name!r} is for no part of {family.name}, whose names begin with "
                f"{', '.join(components)}"
            )
        states.setdefault(component, {})[rest] = tensor
    facts = json.loads(header.get(_METADATA, "{}"))
    parts: Parts = {}
    alphas: Alphas = {}
    for component, state in states.items():
        part = components[component]
        known = adaptable_shapes(build_skeleton(source, component))
        layers = {_as_in_model(name, known): one for name, one in split_layers(state).items()}
        if strange := sorted(layers.keys() - known.keys()):
            raise ValueError(f"this {family.name} model has no layer {strange[0]!r} in {component}")
        parts[part] = layers
        own = {
            key.removeprefix(f"{component}."): value
            for key, value in facts.items()
            if key.startswith(f"{component}.")
        }
        for module in layers if "lora_alpha" in own else ():
            alphas[part, module] = _alpha_of(module, own)
    return parts, alphas


def _as_in_model(module: str, known: Mapping[str, Any]) -> str:
    """CLIP's modules may or may not begin with `text_model.`, in the file and in the library."""
    choices = (module, f"text_model.{module}", module.removeprefix("text_model."))
    return next((one for one in choices if one in known), module)


def _alpha_of(module: str, facts: Mapping[str, Any]) -> float:
    patterns: Mapping[str, float] = facts.get("alpha_pattern") or {}
    return float(patterns.get(module, facts["lora_alpha"]))
