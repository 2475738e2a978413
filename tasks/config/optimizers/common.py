"""The optimizers that torch and transformers have."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.config.optimizers.fields import (
    AmsGrad,
    Beta,
    Betas,
    Dampening,
    Decay,
    Eps,
    Momentum,
    Nesterov,
    Penalty,
)
from tasks.config.section import Section


class AdamW(Section):
    """Adam with decoupled weight decay (torch)."""

    kind: Literal["adamw"] = "adamw"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: Decay = 0.01
    amsgrad: AmsGrad = False


class Adam(Section):
    """Adam (torch)."""

    kind: Literal["adam"] = "adam"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: Penalty = 0.0
    amsgrad: AmsGrad = False


class RAdam(Section):
    """Adam that holds back its first steps (torch)."""

    kind: Literal["radam"] = "radam"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: Decay = 0.01


class SGD(Section):
    """Stochastic gradient descent (torch)."""

    kind: Literal["sgd"] = "sgd"
    momentum: Momentum = 0.0
    dampening: Dampening = 0.0
    nesterov: Nesterov = False
    weight_decay: Penalty = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("nesterov needs a momentum greater than 0 and no dampening")
        if self.dampening and not self.momentum:
            raise ValueError("dampening needs a momentum greater than 0")
        return self


class AdaGrad(Section):
    """Rates fall with the sum of squared gradients (torch)."""

    kind: Literal["adagrad"] = "adagrad"
    lr_decay: float = Field(default=0.0, ge=0)
    """The learning rate is divided by 1 + this times the number of steps."""
    initial_accumulator_value: float = Field(default=0.0, ge=0)
    """What the sum of squared gradients starts with."""
    eps: Eps = 1e-10
    weight_decay: Penalty = 0.0


class RMSprop(Section):
    """Gradients divided by their running size (torch)."""

    kind: Literal["rmsprop"] = "rmsprop"
    alpha: Beta = 0.99
    """How slowly the average of the squared gradient changes."""
    eps: Eps = 1e-8
    momentum: Momentum = 0.0
    centered: bool = False
    """Divide by the gradient's standard deviation instead."""
    weight_decay: Penalty = 0.0


class Adafactor(Section):
    """Adam whose second average is stored as a row and a column (transformers)."""

    kind: Literal["adafactor"] = "adafactor"
    eps: tuple[float, float] = (1e-30, 1e-3)
    """Added to squared gradients; least size of a weight for `scale_parameter`."""
    clip_threshold: float = Field(default=1.0, gt=0)
    """Updates of a greater root mean square are scaled down to it."""
    decay_rate: float = Field(default=-0.8, lt=0)
    """At step t the second average changes by t to this power."""
    beta1: Beta | None = None
    """How slowly the average of the gradient changes; default: there is none, to save memory."""
    scale_parameter: bool = False
    """Multiply the rate of each weight matrix by its root mean square."""
    weight_decay: Decay = 0.0
