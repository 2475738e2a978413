"""Optimizers: a settings table's `kind` to a function that builds it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tasks.config.models import AdamW

if TYPE_CHECKING:
    import torch


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
