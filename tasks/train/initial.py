"""The adapter that a training goes on from, where `train.method.initial` names a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.config.methods import Adapter, LoraMethod
from tasks.config.models import Config
from tasks.families.base import Family
from tasks.families.sources import ModelSource
from tasks.train.formats.reading import read_lora, with_alpha

if TYPE_CHECKING:
    from torch import Tensor


def initial_weights(
    config: Config, family: Family, model: ModelSource
) -> "Mapping[str, Mapping[str, Tensor]]":
    """Part to its weights under peft's names, for the rank and alpha of this training.

    Empty when the training begins with fresh weights.

    Raises:
        ValueError: the file is no adapter for this model, or of another kind or rank.
    """
    method = config.train.method
    if not isinstance(method, Adapter) or method.initial is None:
        return {}
    found = read_lora(Path(method.initial), family, model)
    if (found.method.kind, _is_dora(found.method)) != (method.kind, _is_dora(method)):
        raise ValueError(
            f"train.method.initial = {method.initial!r} is a {_name(found.method)}, and this "
            f"training is of a {_name(method)}"
        )
    try:
        parts = with_alpha(found, method.rank, method.alpha)
    except ValueError as error:
        raise ValueError(f"train.method.initial = {method.initial!r}: {error}") from error
    untrained = [name for name in parts if not getattr(config.parts, name).train]
    if untrained:
        raise ValueError(
            f"train.method.initial = {method.initial!r} also has weights of {untrained[0]}: set "
            f"parts.{untrained[0]}.train = true, or they would be lost"
        )
    return parts


def _is_dora(method: Adapter) -> bool:
    return isinstance(method, LoraMethod) and method.dora


def _name(method: Adapter) -> str:
    return "dora" if _is_dora(method) else method.kind
