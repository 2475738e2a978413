"""Cadences: how often something happens in a training."""

from typing import Literal

from pydantic import Field

from tasks.config.section import Section


class Cadence(Section):
    """How often something happens."""

    every: int = Field(default=0, ge=0)
    """Once every so many units; 0 means never."""
    unit: Literal["step", "epoch", "minute"] = "step"
    """What `every` counts. Minutes are of this call's training time."""


class BackupCadence(Cadence):
    """How often a resumable backup is written, and how many are kept."""

    every: int = Field(default=500, ge=0)
    keep: int = Field(default=3, ge=1)
    """How many of the newest backups are kept."""


class SaveCadence(Cadence):
    """How often the model is written as it is then, in `model.output_format`."""

    keep: int | None = Field(default=None, ge=1)
    """How many of the newest are kept; default: all."""
    skip_first: int = Field(default=0, ge=0)
    """So many times at the start it is left out."""


class ValidateCadence(Cadence):
    """How often the loss on the concepts of type `validation` is measured.

    Every row counts once per quantile, with timesteps and noise that never change. Also measured
    after training.
    """

    every: int = Field(default=1, ge=0)
    unit: Literal["step", "epoch", "minute"] = "epoch"
    quantiles: int = Field(default=4, ge=1)
    """Timesteps per row: the middles of so many equal parts of the schedule."""


class SampleCadence(Cadence):
    """When sample images are drawn, and of what. Also drawn once after training.

    Without prompts no image is drawn.
    """

    skip_first: int = Field(default=0, ge=0)
    """So many times at the start no image is drawn."""
    prompts: tuple[str, ...] = ()
    """One image is drawn per prompt."""
    negative_prompt: str = ""
    """What the images should not show."""
    steps: int = Field(default=20, gt=0)
    """Denoising steps per image."""
    guidance: float = Field(default=7.0, ge=0)
    """Classifier-free guidance scale."""
    seed: int = 42
    """Seed of the first image; each further prompt adds one."""
    width: int | None = Field(default=None, gt=0)
    """Pixels; default: the training resolution."""
    height: int | None = Field(default=None, gt=0)
    """Pixels; default: the training resolution."""
