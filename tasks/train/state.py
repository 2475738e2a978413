"""The state of a training: how far it is, and the parts that a step needs, as one record."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.config.training import TrainConfig
from tasks.families.base import Family
from tasks.train.batch import StepBatches

if TYPE_CHECKING:
    import torch

    from tasks.train.ema import AveragedWeights
    from tasks.train.forward import Forward
    from tasks.train.objectives import Objective
    from tasks.train.parts import TrainedPart
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
    num_skipped: int = 0
    """Steps in a row, up to now, that were left out since they were not finite."""

    def after_step(self, loss: float | None, data: StepBatches) -> "Progress":
        """The progress after one more optimizer step; `loss` is None when it was left out."""
        smoothed = self.smoothed_loss
        if loss is not None:
            before = loss if smoothed is None else smoothed
            smoothed = SMOOTHING * before + (1 - SMOOTHING) * loss
        return Progress(
            step=self.step + 1,
            epoch=data.epoch + data.ends_epoch,
            step_in_epoch=0 if data.ends_epoch else data.step_in_epoch + 1,
            smoothed_loss=smoothed,
            num_skipped=self.num_skipped + 1 if loss is None else 0,
        )


@dataclass(slots=True, kw_only=True)
class Training:
    """The live objects of one rank. Only `progress` and `model` are ever replaced."""

    config: TrainConfig
    family: Family
    forward: "Forward"
    """The bare module: what is saved and sampled from is in it."""
    model: Any
    """What is called: `forward`, wrapped for distribution when there are several ranks."""
    parts: "Sequence[TrainedPart]"
    adapted: Sequence[Any]
    """Modules whose adapters can be switched off; none with a full fine-tune."""
    objective: "Objective"
    latent_facts: Mapping[str, Any]
    """How stored latents are scaled for the denoiser."""
    precision: "Precision"
    device: "torch.device"
    optimizer: "torch.optim.Optimizer"
    scaler: "torch.amp.GradScaler"
    average: "AveragedWeights | None"
    total_steps: int
    """Of the whole run, whatever this call does of it: schedules depend on it."""
    progress: Progress
    world: int = 1
    split: int = 1
    """Each micro-batch goes through the model in so many pieces, where memory ran out before."""

    @property
    def denoiser(self) -> Any:
        """The bare denoiser."""
        return self.forward.denoiser

    @property
    def parameters(self) -> "list[torch.nn.Parameter]":
        """All trained ones, part by part."""
        return [parameter for part in self.parts for parameter in part.parameters]


@contextmanager
def weights_in_use(training: Training) -> Iterator[None]:
    """Meanwhile the weights are those to save, to sample and to measure: averaged, if they are."""
    from tasks.train.optimizers import weights_for_use

    average = training.average
    with weights_for_use(training.optimizer), average.in_use() if average else nullcontext():
        yield
