"""Optimizers and learning-rate schedules: one class per `kind`, each with its own settings."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config.section import Section


class AdamW(Section):
    """torch.optim.AdamW."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)


Optimizer = AdamW


class Schedule(Section):
    """Learning-rate schedule with linear warm-up."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps in which the learning rate rises from 0."""
    min_factor: float = Field(default=0.0, ge=0, le=1)
    """The learning rate never falls below this share of its peak (linear, cosine)."""
