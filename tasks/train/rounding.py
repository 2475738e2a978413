"""Optimizer steps on bfloat16 weights.

A bfloat16 number has 8 significant bits, so most updates are smaller than half its last one, and
rounding to the nearest would lose them. Each weight is widened to float32, updated, and rounded up
or down at random, up the likelier the nearer it is: on average nothing is lost (Zamirai et al.
2020, "Revisiting BFloat16 Training"). Any optimizer can do it, and its averages are float32.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.optim import Optimizer


def update_weights(optimizer: "Optimizer", scaler: "torch.amp.GradScaler", seed: int) -> None:
    """One step of the optimizer; weights in bfloat16 are rounded by random bits from `seed`.

    Args:
        optimizer: of `build_optimizer`, after the backward pass.
        scaler: switched off where weights are bfloat16.
        seed: of this step: `draw_seed(train.seed, "rounding", 0, step)`.
    """
    import torch

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if all(parameter.dtype != torch.bfloat16 for parameter in parameters):
        scaler.step(optimizer)
        return
    generators: dict[torch.device, torch.Generator] = {}
    for parameter in parameters:
        if parameter.device not in generators:
            generators[parameter.device] = torch.Generator(parameter.device).manual_seed(seed)
    if any(group.get("together") for group in optimizer.param_groups):
        _step(optimizer, parameters, generators)
    else:
        step_one_by_one(optimizer, generators)


def step_one_by_one(
    optimizer: "Optimizer", generators: "Mapping[torch.device, torch.Generator]"
) -> None:
    """A step for one parameter after the other, so that only one at a time is widened.

    The same as one step for all, for optimizers whose parameters know nothing of each other. What
    a group counts, such as steps, starts for each parameter from the values before the step.
    """
    groups = optimizer.param_groups
    try:
        for group in groups:
            common = {name: value for name, value in group.items() if name != "params"}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                alone = {**common, "params": [parameter]}
                optimizer.param_groups = [alone]
                _step(optimizer, [parameter], generators)
                group.update({name: alone[name] for name in alone if name != "params"})
    finally:
        optimizer.param_groups = groups


def round_stochastically(values: "Tensor", generator: "torch.Generator") -> "Tensor":
    """float32 values as bfloat16, rounded up or down at random so that their mean stays."""
    import torch

    # A bfloat16 is the upper half of a float32: a random lower half carries over, or not.
    noise = torch.empty(values.shape, dtype=torch.int32, device=values.device)
    noise.random_(0, 1 << 16, generator=generator)
    rounded = noise.add_(values.view(torch.int32)).bitwise_and_(-1 << 16).view(torch.float32)
    # The bits of a number that is none would carry over into its sign.
    return torch.where(values.isfinite(), rounded, values).to(torch.bfloat16)


def _step(
    optimizer: "Optimizer",
    parameters: "Sequence[torch.nn.Parameter]",
    generators: "Mapping[torch.device, Any]",
) -> None:
    """One step of the optimizer, on float32 copies of those parameters that are bfloat16."""
    import torch

    wide = [p for p in parameters if p.dtype == torch.bfloat16 and p.grad is not None]
    for parameter in wide:
        gradient = parameter.grad
        parameter.grad = None
        parameter.data = parameter.data.float()
        parameter.grad = None if gradient is None else gradient.float()
    optimizer.step()
    for parameter in wide:
        parameter.grad = None
        parameter.data = round_stochastically(parameter.data, generators[parameter.device])
