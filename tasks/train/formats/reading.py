"""Adapter files of kohya's, LyCORIS' and diffusers' layout, and backups of ours, as one record."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from tasks.config.methods import Adapter, LohaMethod, LokrMethod, LoraMethod, Method, Parts
from tasks.families.base import Family
from tasks.families.sources import BACKUP_FILE, ModelSource
from tasks.train.formats.diffusers_reading import peft_name, read_diffusers
from tasks.train.formats.kohya_reading import PREFIXES, read_kohya
from tasks.train.formats.layers import (
    MAGNITUDE,
    join_layers,
    kind_of,
    rank_of,
    scaled,
    split_layers,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.train.formats.layers import Alphas, Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAdapter:
    """An adapter as training and the output formats use it."""

    method: Adapter
    """Its kind, its rank (the most common one) and its alpha (one for all layers)."""
    parts: "Mapping[str, Mapping[str, Tensor]]"
    """Part (denoiser, text_encoder_1, ...) to its weights under peft's names, float32."""


def read_lora(path: Path, family: Family, source: ModelSource) -> ReadAdapter:
    """Understands an adapter for this model.

    Args:
        path: a safetensors file, or a backup of ours (a folder).
        family: of the model that it is for.
        source: that model: its configs say which modules there are.

    Raises:
        ValueError: it is no adapter, or none for this model; says what was found.
    """
    if (path / BACKUP_FILE).is_file():
        return _read_backup(path)
    tensors, header = read_tensors(path)
    layout = adapter_layout(tensors)
    try:
        if layout == "kohya_lora":
            return _evened(*read_kohya(tensors, family, source))
        if layout == "diffusers_lora":
            return _evened(*read_diffusers(tensors, header, family, source))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    names = ", ".join(sorted(tensors)[:3])
    raise ValueError(f"{path}: no adapter in kohya's or diffusers' layout; it has {names} ...")


def with_alpha(read: ReadAdapter, rank: int, alpha: float) -> "dict[str, dict[str, Tensor]]":
    """The parts for a training with this rank and alpha, of the same effect as in the file.

    Raises:
        ValueError: a layer is of another rank.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for part, weights in read.parts.items():
        layers = {}
        for module, layer in split_layers(weights).items():
            if rank_of(layer) not in (rank, None):
                raise ValueError(
                    f"{part}: layer {module!r} is of rank {rank_of(layer)}, and train.method.rank "
                    f"is {rank}: a training goes on with one rank for all layers"
                )
            own_rank = read.method.rank if rank_of(layer) is None else rank
            before, after = read.method.alpha / own_rank, alpha / rank
            layers[module] = scaled(layer, before / after)
        found[part] = join_layers(layers)
    return found


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """The tensors, as float32, and the header of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).float() for name in file.offset_keys()}, dict(
            file.metadata() or {}
        )


def adapter_layout(names: Mapping[str, Any]) -> str | None:
    """kohya_lora or diffusers_lora, by the names of the tensors; None for anything else."""
    if names and all(name.startswith(PREFIXES) for name in names):
        return "kohya_lora"
    marks = (".lora_A.", ".lora_B.", f".{MAGNITUDE}")
    is_diffusers = names and all(any(mark in peft_name(one) for mark in marks) for one in names)
    return "diffusers_lora" if is_diffusers else None


def _evened(parts: "Mapping[str, Mapping[str, Layer]]", alphas: "Alphas") -> ReadAdapter:
    """One alpha for all layers: the most common one, into which the others are multiplied."""
    layers = {(part, name): one for part, group in parts.items() for name, one in group.items()}
    kinds = {kind_of(layer) for layer in layers.values()}
    if len(kinds) != 1:
        raise ValueError(f"an adapter of several kinds at once: {', '.join(sorted(kinds))}")
    ranks = {place: rank for place, layer in layers.items() if (rank := rank_of(layer))}
    own = {place: alphas.get(place, float(rank)) for place, rank in ranks.items()}
    rank = _most_common(ranks) or 1
    alpha = _most_common(own) or float(rank)
    evened: dict[str, dict[str, Layer]] = {}
    for (part, module), layer in layers.items():
        # peft scales a LoKr of two whole matrices too, which files never do.
        factor = own[part, module] / alpha if (part, module) in own else rank / alpha
        evened.setdefault(part, {})[module] = scaled(layer, factor)
    has_magnitude = any(MAGNITUDE in layer for layer in layers.values())
    return ReadAdapter(
        method=_METHODS[kinds.pop()](rank, alpha, has_magnitude),
        parts={part: join_layers(group) for part, group in evened.items()},
    )


def _most_common(values: Mapping[Any, Any]) -> Any:
    counted = Counter(values.values()).most_common(1)
    return counted[0][0] if counted else None


def _read_backup(folder: Path) -> ReadAdapter:
    from safetensors.torch import load_file

    facts = json.loads((folder / BACKUP_FILE).read_text(encoding="utf-8"))
    method: Any = TypeAdapter(Method).validate_python(facts["method"])
    if not isinstance(method, Adapter):
        raise ValueError(f"{folder}: a backup of {method.kind!r}, which trains no adapter")
    files = {name: folder / f"{name}.safetensors" for name in Parts.model_fields}
    return ReadAdapter(
        method=method,
        parts={name: load_file(path) for name, path in files.items() if path.is_file()},
    )


_METHODS: Mapping[str, Callable[[int, float, bool], Adapter]] = {
    "lora": lambda rank, alpha, dora: LoraMethod(rank=rank, alpha=alpha, dora=dora),
    "loha": lambda rank, alpha, dora: LohaMethod(rank=rank, alpha=alpha),
    "lokr": lambda rank, alpha, dora: LokrMethod(rank=rank, alpha=alpha),
}
