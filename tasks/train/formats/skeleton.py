"""Components without data: the names and shapes of a model's layers, as its configs say."""

import importlib
import json
from typing import Any

from tasks.families.loading import quiet_libraries
from tasks.families.sources import PIPELINE_FILE, ModelSource, read_config


def build_skeleton(source: ModelSource, component: str) -> Any:
    """A module whose parameters are on the meta device; no weights are read."""
    from accelerate import init_empty_weights

    index = json.loads((source.folder / PIPELINE_FILE).read_text(encoding="utf-8"))
    library, name = index[component]
    if library not in ("diffusers", "transformers"):
        raise ValueError(
            f"{source.folder / PIPELINE_FILE}: {component!r} is of library {library!r}"
        )
    kind = getattr(importlib.import_module(library), name)
    config = read_config(source, component)
    with quiet_libraries(), init_empty_weights():
        if library == "diffusers":
            return kind.from_config(config)
        return kind(kind.config_class.from_dict(config))


def adaptable_shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """Names of the layers that an adapter can sit on to the shapes of their weights."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {
        name: tuple(layer.weight.shape)
        for name, layer in module.named_modules()
        if isinstance(layer, kinds)
    }
