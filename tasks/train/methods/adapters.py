"""Adapters by peft (LoRA, DoRA, LoHa, LoKr) on chosen layers of a module; all else is frozen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Adapter
from tasks.families.adapters import peft_config

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def prepare(
    module: Any, settings: Adapter, layers: Sequence[str], seed: int
) -> "Sequence[torch.nn.Parameter]":
    """Adds a fresh adapter, equal for equal seeds, to the layers of these names."""
    import torch
    from peft import inject_adapter_in_model

    module.requires_grad_(False)
    # peft draws initial weights from the global generator: lend it ours, leave it as it was.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(peft_config(settings, layers), module)
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def state(module: Any) -> "dict[str, Tensor]":
    """The adapter's weights under peft's names."""
    from peft import get_peft_model_state_dict

    weights: dict[str, Tensor] = get_peft_model_state_dict(module)
    return weights


def restore(module: Any, weights: "Mapping[str, Tensor]") -> None:
    """Puts an adapter's weights back; ValueError when it is one of another shape or model."""
    from peft import set_peft_model_state_dict

    wanted = {name: tuple(tensor.shape) for name, tensor in state(module).items()}
    got = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != got:
        different = sorted(name for name in wanted | got if wanted.get(name) != got.get(name))
        first = different[0]
        raise ValueError(
            f"these adapter weights do not fit this model and train.method: {len(different)} "
            f"tensors differ, first {first}: {got.get(first)} there, {wanted.get(first)} "
            "wanted. Use the method, the rank and the base model that they were trained with."
        )
    set_peft_model_state_dict(module, dict(weights))


@contextmanager
def switched_off(*modules: Any) -> Iterator[None]:
    """Meanwhile the modules answer as without their adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [
        layer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, BaseTunerLayer)
    ]
    # peft switches gradients with the adapters; some parts may be frozen already.
    had_gradient = [
        (parameter, parameter.requires_grad) for layer in layers for parameter in layer.parameters()
    ]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, before in had_gradient:
            parameter.requires_grad_(before)
