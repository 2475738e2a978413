"""The state of a training: how far it is, and the parts that a step needs, as one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.config.training import TrainConfig
from tasks.families.base import Family
from tasks.train.batches import StepBatches

if TYPE_CHECKING:
    import torch

    from tasks.train.losses import Loss
    from tasks.train.methods import Method
    from tasks.train.objectives import Objective
    from tasks.train.precision import Precision

SMOOTHING = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is; all counters are of finished work."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    """The next step is step number `step_in_epoch` (from 0) of epoch `epoch` (from 0)."""
    smoothed_loss: float | None = None

    def after_step(self, loss: float, data: StepBatches) -> "Progress":
        """The progress after one more optimizer step."""
        before = loss if self.smoothed_loss is None else self.smoothed_loss
        return Progress(
            step=self.step + 1,
            epoch=data.epoch + data.ends_epoch,
            step_in_epoch=0 if data.ends_epoch else data.step_in_epoch + 1,
            smoothed_loss=SMOOTHING * before + (1 - SMOOTHING) * loss,
        )


@dataclass(slots=True, kw_only=True)
class Training:
    """The live objects of one rank. Only `progress` is ever replaced."""

    config: TrainConfig
    family: Family
    method: "Method"
    objective: "Objective"
    loss: "Loss"
    precision: "Precision"
    vae_config: Mapping[str, Any]
    device: "torch.device"
    denoiser: Any
    """The bare module: what is saved and sampled from."""
    model: Any
    """What is called: the denoiser, wrapped for distribution when there are several ranks."""
    parameters: "Sequence[torch.nn.Parameter]"
    """The trained ones, float32."""
    optimizer: "torch.optim.Optimizer"
    scaler: "torch.amp.GradScaler"
    total_steps: int
    """Of the whole run, whatever this call does of it: schedules depend on it."""
    progress: Progress
    world: int = 1
