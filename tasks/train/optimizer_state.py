"""An optimizer's state as JSON values and tensors, and back, exactly.

torch's `load_state_dict` casts averages to the dtype of their weight, and packages add casts of
their own. Here every number comes back with the bits it had.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

_SEPARATOR = "|"
_TENSOR, _TUPLE, _ITEMS, _DTYPE = "$tensor", "$tuple", "$items", "$dtype"
MAX_SHARED = 4096
"""Numbers in a tensor that may belong to several weights."""
_CHOSEN_HERE = ("fused", "foreach")
"""Group entries that say how an optimizer computes; the machine that goes on decides them."""


def save_state(optimizer: "Optimizer") -> "tuple[dict[str, Any], dict[str, Tensor]]":
    """All that an optimizer knows, as JSON values and named tensors on the CPU.

    Those that were there are not copied, so save them before the next step.
    TypeError when it holds something that is neither.
    """
    import torch

    # Some packages reshape what their own state_dict gives.
    return flatten_state(torch.optim.Optimizer.state_dict(optimizer))


def load_state(
    optimizer: "Optimizer", values: Mapping[str, Any], tensors: "Mapping[str, Tensor]"
) -> None:
    """Puts back what `save_state` gave; ValueError when it is of other parameters."""
    state = unflatten_state(values, tensors)
    saved = [len(group["params"]) for group in state["param_groups"]]
    present = [len(group["params"]) for group in optimizer.param_groups]
    if saved != present:
        raise ValueError(
            f"the optimizer's state is of {saved} parameters per group, and now there are {present}"
        )
    for group, old in zip(optimizer.param_groups, state["param_groups"], strict=True):
        device = next((parameter.device for parameter in group["params"]), None)
        for name, value in old.items():
            if name not in ("params", *_CHOSEN_HERE):
                group[name] = _place(value, device)
        for parameter, number in zip(group["params"], old["params"], strict=True):
            if number in state["state"]:
                optimizer.state[parameter] = {
                    name: _place(value, None if _stays(name, group) else parameter.device)
                    for name, value in state["state"][number].items()
                }


def flatten_state(state: Mapping[str, Any]) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    """A state dict as JSON values and named tensors; TypeError when it holds anything else."""
    tensors: dict[str, Tensor] = {}
    return {name: _flatten(value, name, tensors) for name, value in state.items()}, tensors


def unflatten_state(values: Mapping[str, Any], tensors: "Mapping[str, Tensor]") -> dict[str, Any]:
    """The inverse of `flatten_state`."""
    return {name: _unflatten(value, tensors) for name, value in values.items()}


def _flatten(value: Any, place: str, tensors: "dict[str, Tensor]") -> Any:
    import torch

    def inner(items: Iterable[tuple[Any, Any]]) -> list[Any]:
        return [_flatten(item, f"{place}{_SEPARATOR}{name}", tensors) for name, item in items]

    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().contiguous()
        # Some share one small table among all weights; the file format holds no references.
        tensors[place] = tensor.clone() if tensor.numel() <= MAX_SHARED else tensor
        return {_TENSOR: place}
    if isinstance(value, torch.dtype):
        return {_DTYPE: str(value).removeprefix("torch.")}
    if isinstance(value, Mapping):
        return {_ITEMS: list(map(list, zip(value, inner(value.items()), strict=True)))}
    if isinstance(value, tuple):
        return {_TUPLE: inner(enumerate(value))}
    if isinstance(value, list):
        return inner(enumerate(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place} of the optimizer's state is a {type(value).__name__}")


def _unflatten(value: Any, tensors: "Mapping[str, Tensor]") -> Any:
    import torch

    if isinstance(value, list):
        return [_unflatten(item, tensors) for item in value]
    if not isinstance(value, Mapping):
        return value
    ((sign, inner),) = value.items()
    if sign == _TENSOR:
        return tensors[inner]
    if sign == _DTYPE:
        return getattr(torch, inner)
    if sign == _TUPLE:
        return tuple(_unflatten(item, tensors) for item in inner)
    return {name: _unflatten(item, tensors) for name, item in inner}


def _place(value: Any, device: Any) -> Any:
    """The value with a copy of its tensors on `device` (None: where they are)."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(device, copy=True)
    if isinstance(value, Mapping):
        return {name: _place(item, device) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_place(item, device) for item in value)
    return value


def _stays(name: str, group: Mapping[str, Any]) -> bool:
    """Whether torch keeps it on the CPU: the step count, unless one kernel reads it."""
    return name == "step" and not group.get("fused") and not group.get("capturable")
