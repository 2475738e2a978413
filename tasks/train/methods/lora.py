"""LoRA: a low-rank adapter on the family's target layers, by peft; all else is frozen."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.config.methods import LoraMethod
from tasks.families.base import Family

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def prepare(
    denoiser: Any, settings: LoraMethod, family: Family, seed: int
) -> "Sequence[torch.nn.Parameter]":
    """Adds a fresh adapter, equal for equal seeds, with float32 weights."""
    import torch
    from peft import LoraConfig

    denoiser.requires_grad_(False)
    adapter = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(family.lora_targets),
    )
    # peft draws initial weights from the global generator: lend it ours, leave it as it was.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        denoiser.add_adapter(adapter)
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    return trained


def state(denoiser: Any) -> "dict[str, Tensor]":
    """The adapter's weights under peft's names."""
    from peft import get_peft_model_state_dict

    weights: dict[str, Tensor] = get_peft_model_state_dict(denoiser)
    return weights


def restore(denoiser: Any, weights: "Mapping[str, Tensor]") -> None:
    """Puts an adapter's weights back; ValueError when it is one of another shape or model."""
    from peft import set_peft_model_state_dict

    wanted = {name: tuple(tensor.shape) for name, tensor in state(denoiser).items()}
    got = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != got:
        different = sorted(name for name in wanted | got if wanted.get(name) != got.get(name))
        first = different[0]
        raise ValueError(
            f"the backup's adapter does not fit this model and train.method: {len(different)} "
            f"tensors differ, first {first}: {got.get(first)} in the backup, {wanted.get(first)} "
            "wanted. Use the rank and the base model that the run was started with."
        )
    set_peft_model_state_dict(denoiser, dict(weights))
