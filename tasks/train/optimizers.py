"""Optimizers: a settings table's `kind` to a function that builds it."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.config.optimizers import AdamW

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SEPARATOR = "|"


def adamw(
    parameters: "Iterable[torch.nn.Parameter]", settings: AdamW, rate: float
) -> "torch.optim.Optimizer":
    """torch.optim.AdamW; fused on a GPU, where it saves a pass over all weights."""
    import torch

    parameters = list(parameters)
    return torch.optim.AdamW(
        parameters,
        lr=rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=all(p.is_cuda for p in parameters) or None,
    )


OPTIMIZERS: "dict[str, Callable[..., torch.optim.Optimizer]]" = {"adamw": adamw}


def flatten_state(state: Mapping[str, Any]) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    """An optimizer's state dict as JSON values and named tensors (`<parameter>|<name>`)."""
    from torch import Tensor

    values: dict[str, dict[str, Any]] = {}
    tensors: dict[str, Tensor] = {}
    for parameter, entries in state["state"].items():
        values[str(parameter)] = {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}{_SEPARATOR}{name}"] = value.detach().contiguous()
            else:
                values[str(parameter)][name] = value
    return {"param_groups": state["param_groups"], "state": values}, tensors


def unflatten_state(values: Mapping[str, Any], tensors: "Mapping[str, Tensor]") -> dict[str, Any]:
    """The inverse of `flatten_state`."""
    state: dict[int, dict[str, Any]] = {int(p): dict(v) for p, v in values["state"].items()}
    for key, tensor in tensors.items():
        parameter, name = key.split(_SEPARATOR, 1)
        state[int(parameter)][name] = tensor
    return {"param_groups": values["param_groups"], "state": state}
