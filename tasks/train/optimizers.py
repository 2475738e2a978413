"""Optimizers: a settings table's `kind` to a function that builds it.

torch, transformers and the packages pytorch-optimizer, prodigy-plus-schedule-free and bitsandbytes
have them; nothing of their arithmetic is here.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tasks.config.optimizers import Optimizer as Settings
from tasks.config.optimizers.adapted import ONE_RATE, PRODIGY_PLUS
from tasks.config.training import BatchScaler
from tasks.train.optimizer_state import flatten_state as flatten_state
from tasks.train.optimizer_state import unflatten_state as unflatten_state

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer

WORD = "embedding"
"""What the names of groups begin with that are words of textual inversion."""
Groups = list[dict[str, Any]]
"""Of a torch optimizer: each has `name`, `params` and `lr`."""
Builder = Callable[[Groups, Any], "Optimizer"]


def build_optimizer(groups: Sequence[Mapping[str, Any]], settings: Settings) -> "Optimizer":
    """An optimizer in training mode, without state.

    Args:
        groups: one dict per part with `name`, `params` and `lr`. An optimizer may split a group;
            both halves keep its name, and `share`, where there is one, multiplies their rate.
        settings: `[train.optimizer]`.

    Raises:
        ValueError: it cannot run on this machine.
    """
    import torch

    optimizer = OPTIMIZERS[settings.kind]([dict(group) for group in groups], settings)
    for group in optimizer.param_groups:
        group["together"] = settings.kind in (*ONE_RATE, PRODIGY_PLUS)
    # Averages are float32, also where an optimizer makes them at once and of bfloat16 weights.
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
                state[name] = value.float()
    return optimizer


def library(path: str, **fixed: Any) -> Builder:
    """A builder for the class at `module.name`, which takes the settings by their names.

    A setting of None is left to the class.
    """

    def build(groups: Groups, settings: Any) -> "Optimizer":
        optimizer: Optimizer = _find(path)(groups, **_options(settings), **fixed)
        return optimizer

    return build


def fused(path: str) -> Builder:
    """As `library`, for classes of torch that update all weights in one GPU kernel."""

    def build(groups: Groups, settings: Any) -> "Optimizer":
        on_gpu = all(p.is_cuda for group in groups for p in group["params"])
        return library(path, fused=on_gpu or None)(groups, settings)

    return build


def eight_bit(path: str) -> Builder:
    """As `library`, for classes of bitsandbytes; ValueError where they cannot run."""

    def build(groups: Groups, settings: Any) -> "Optimizer":
        from importlib.util import find_spec

        kind = settings.kind
        other = kind.removesuffix("_8bit")
        if not all(p.is_cuda for group in groups for p in group["params"]):
            raise ValueError(
                f'train.optimizer.kind = "{kind}" needs an NVIDIA GPU, and this training runs on '
                f'the CPU. Use "{other}".'
            )
        if find_spec("bitsandbytes") is None:
            raise ValueError(
                f'train.optimizer.kind = "{kind}" needs the package bitsandbytes. Install '
                f'tilewright[gpu], or use "{other}".'
            )
        return library(path, lr=groups[0]["lr"])(groups, settings)

    return build


def muon(path: str) -> Builder:
    """A builder for Muon and its like: matrices train by it, all else by AdamW.

    The vectors of new words make no matrix that acts on anything, so they are of the rest.
    """

    def build(groups: Groups, settings: Any) -> "Optimizer":
        options = _options(settings)
        rate = options.pop("adamw_rate")
        halves: Groups = []
        for group in groups:
            by_muon: dict[bool, list[Any]] = {True: [], False: []}
            for parameter in group["params"]:
                is_matrix = parameter.ndim >= 2 and not group["name"].startswith(WORD)
                by_muon[is_matrix].append(parameter)
            by_adamw = {"lr": group["lr"] * rate, "share": rate}
            by_adamw |= {"weight_decay": options["weight_decay"]}
            halves.append({**group, "params": by_muon[True], "use_muon": True})
            halves.append({**group, "params": by_muon[False], "use_muon": False, **by_adamw})
        optimizer: Optimizer = _find(path)([half for half in halves if half["params"]], **options)
        return optimizer

    return build


_PACKAGE = "pytorch_optimizer."
EIGHT_BIT = {
    "adamw_8bit": "bitsandbytes.optim.AdamW8bit",
    "adam_8bit": "bitsandbytes.optim.Adam8bit",
    "ademamix_8bit": "bitsandbytes.optim.AdEMAMix8bit",
    "lion_8bit": "bitsandbytes.optim.Lion8bit",
    "sgd_8bit": "bitsandbytes.optim.SGD8bit",
    "adagrad_8bit": "bitsandbytes.optim.Adagrad8bit",
    "rmsprop_8bit": "bitsandbytes.optim.RMSprop8bit",
    "lars_8bit": "bitsandbytes.optim.LARS8bit",
}
OPTIMIZERS: dict[str, Builder] = {
    "adamw": fused("torch.optim.AdamW"),
    "adam": fused("torch.optim.Adam"),
    "radam": library("torch.optim.RAdam", decoupled_weight_decay=True),
    "sgd": fused("torch.optim.SGD"),
    "adagrad": library("torch.optim.Adagrad"),
    "rmsprop": library("torch.optim.RMSprop"),
    "adafactor": library("transformers.optimization.Adafactor", relative_step=False),
    "lion": library(_PACKAGE + "Lion"),
    "tiger": library(_PACKAGE + "Tiger"),
    "sign_sgd": library(_PACKAGE + "SignSGD"),
    "came": library(_PACKAGE + "CAME"),
    "muon": muon(_PACKAGE + "Muon"),
    "adamuon": muon(_PACKAGE + "AdaMuon"),
    "ademamix": library(_PACKAGE + "AdEMAMix", weight_decouple=True),
    "adopt": library(_PACKAGE + "ADOPT"),
    "adan": library(_PACKAGE + "Adan"),
    "lamb": library(_PACKAGE + "Lamb"),
    "lars": library(_PACKAGE + "LARS"),
    "adabelief": library(_PACKAGE + "AdaBelief"),
    "yogi": library(_PACKAGE + "Yogi"),
    "aida": library(_PACKAGE + "Aida"),
    "prodigy": library(_PACKAGE + "Prodigy"),
    "prodigy_plus": library("prodigyplus.ProdigyPlusScheduleFree"),
    "dadapt_adam": library(_PACKAGE + "DAdaptAdam"),
    "dadapt_adagrad": library(_PACKAGE + "DAdaptAdaGrad"),
    "dadapt_adan": library(_PACKAGE + "DAdaptAdan"),
    "dadapt_lion": library(_PACKAGE + "DAdaptLion", weight_decouple=True),
    "dadapt_sgd": library(_PACKAGE + "DAdaptSGD"),
    "schedule_free_adamw": library(_PACKAGE + "ScheduleFreeAdamW"),
    "schedule_free_sgd": library(_PACKAGE + "ScheduleFreeSGD"),
    **{kind: eight_bit(path) for kind, path in EIGHT_BIT.items()},
}


@contextmanager
def weights_for_use(optimizer: "Optimizer") -> Iterator[None]:
    """Meanwhile the weights are those to save, sample and measure.

    Schedule-free optimizers train one set of weights and use another, their average; for all
    others they are the same. Afterwards the weights are the trained ones, bit by bit.
    """
    import torch

    if not hasattr(optimizer, "eval"):
        yield
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    modes = [group["train_mode"] for group in optimizer.param_groups]
    # Going back by the optimizer's own arithmetic would round.
    kept = [p.detach().to("cpu", copy=True) for p in parameters]
    dtypes = [p.dtype for p in parameters]
    _cast(parameters, [torch.float32] * len(parameters))
    optimizer.eval()
    _cast(parameters, dtypes)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)
        for group, mode in zip(optimizer.param_groups, modes, strict=True):
            group["train_mode"] = mode


def learning_rate_scale(kind: BatchScaler, batch_size: int, accumulation: int, world: int) -> float:
    """What `train.learning_rate_scaler` multiplies rates by: the square root of the samples."""
    return math.sqrt(loss_scale(kind, batch_size, accumulation, world))


def loss_scale(kind: BatchScaler, batch_size: int, accumulation: int, world: int) -> float:
    """What `train.loss_scaler` multiplies the loss by: the number of samples."""
    samples: dict[BatchScaler, int] = {
        "none": 1,
        "batch": batch_size,
        "global_batch": batch_size * world,
        "accumulation": accumulation,
        "both": batch_size * accumulation,
        "global_both": batch_size * accumulation * world,
    }
    return float(samples[kind])


def _find(path: str) -> Any:
    module, name = path.rsplit(".", 1)
    return getattr(import_module(module), name)


def _options(settings: Any) -> dict[str, Any]:
    return settings.model_dump(exclude={"kind"}, exclude_none=True)  # type: ignore[no-any-return]


def _cast(parameters: "Sequence[torch.nn.Parameter]", dtypes: "Sequence[torch.dtype]") -> None:
    for parameter, dtype in zip(parameters, dtypes, strict=True):
        parameter.data = parameter.data.to(dtype)
