"""EMA: an averaged copy of the trained weights, which is what is saved and sampled.

The decay is small at the start, when the weights still move fast: at most (1 + n) / (10 + n) at
update n, as in TensorFlow's ExponentialMovingAverage and OneTrainer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.config.objectives import Ema

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(slots=True)
class AveragedWeights:
    """The copy; `averages` are in the order of `parameters`, float32."""

    settings: Ema
    parameters: "Sequence[torch.nn.Parameter]"
    averages: "list[Tensor]"

    def decay_at(self, step: int) -> float:
        """Share of the copy that stayed at its last update, after step `step` (from 1)."""
        return decay(self.settings, step // self.settings.update_every)

    def update(self, step: int) -> None:
        """Moves the copy towards the weights after optimizer step `step` (from 1), if it is due."""
        import torch

        if step % self.settings.update_every:
            return
        share = 1.0 - self.decay_at(step)
        with torch.no_grad():
            for average, parameter in zip(self.averages, self.parameters, strict=True):
                average.lerp_(parameter.detach().to(average.device, torch.float32), share)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Meanwhile the parameters have the averaged values."""
        import torch

        kept = [parameter.detach().clone() for parameter in self.parameters]
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.averages, strict=True):
                parameter.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, before in zip(self.parameters, kept, strict=True):
                    parameter.copy_(before)


def averaged_weights(
    settings: Ema, parameters: "Sequence[torch.nn.Parameter]"
) -> AveragedWeights | None:
    """The copy as it starts, equal to the weights; None when it is off."""
    import torch

    if settings.kind == "off":
        return None
    averages = [
        parameter.detach().to("cpu" if settings.kind == "cpu" else parameter.device, copy=True)
        for parameter in parameters
    ]
    return AveragedWeights(settings, parameters, [one.to(torch.float32) for one in averages])


def decay(settings: Ema, update: int) -> float:
    """Share of the copy that stays at update number `update` (from 1)."""
    return min(settings.decay, (1 + update) / (10 + update))
