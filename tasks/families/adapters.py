"""Adapters by peft: LoRA, DoRA, LoHa, LoKr; how they are configured, and merged into a model."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Adapter, LohaMethod, LokrMethod, LoraMethod

if TYPE_CHECKING:
    from torch import Tensor

_MARKS = (".lora_", ".hada_", ".lokr_")
"""What begins the names of an adapter's weights, behind the name of their layer."""


def peft_config(settings: Adapter, layers: Sequence[str]) -> Any:
    """The peft config of an adapter on the layers of these names."""
    return PEFT_CONFIGS[settings.kind](settings, layers)


def adapted_layers(weights: "Mapping[str, Tensor]") -> list[str]:
    """The names of the layers that adapter weights, under peft's names, belong to."""
    names = (name.partition(mark)[0] for name in weights for mark in _MARKS if mark in name)
    return list(dict.fromkeys(names))


def put_adapter(module: Any, settings: Adapter, weights: "Mapping[str, Tensor]") -> None:
    """Puts an adapter with these weights, under peft's names, onto a module."""
    from peft import inject_adapter_in_model, set_peft_model_state_dict

    inject_adapter_in_model(peft_config(settings, adapted_layers(weights)), module)
    set_peft_model_state_dict(module, dict(weights))


def merge_adapter(module: Any, settings: Adapter, weights: "Mapping[str, Tensor]") -> None:
    """Adds an adapter's effect to the module's own weights, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    put_adapter(module, settings, weights)
    adapted = [
        (name, layer) for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)
    ]
    for name, layer in adapted:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
    del module.peft_config
    module.requires_grad_(False)


def _lora(settings: LoraMethod, layers: Sequence[str]) -> Any:
    """Hu et al. 2021; with `dora` Liu et al. 2024."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
        target_modules=list(layers),
    )


def _loha(settings: LohaMethod, layers: Sequence[str]) -> Any:
    """Hyeon-Woo et al. 2021, as in LyCORIS."""
    from peft import LoHaConfig

    return LoHaConfig(r=settings.rank, alpha=settings.alpha, target_modules=list(layers))


def _lokr(settings: LokrMethod, layers: Sequence[str]) -> Any:
    """Edalati et al. 2022, as in LyCORIS."""
    from peft import LoKrConfig

    return LoKrConfig(
        r=settings.rank,
        alpha=settings.alpha,
        decompose_factor=settings.factor,
        target_modules=list(layers),
    )


PEFT_CONFIGS: dict[str, Callable[[Any, Sequence[str]], Any]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
}
