"""Optimizers of bitsandbytes, whose averages take 8 bits per weight; they need an NVIDIA GPU.

Its LAMB8bit is not here: it has no rate for each layer, so it is AdamW.
"""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config.optimizers.fields import Beta, Betas, Decay, Eps, Penalty, ThreeBetas
from tasks.config.section import Section

Momentum = Annotated[
    float, Field(gt=0, lt=1, description="How slowly the average of the gradient changes.")
]
MaxUpdate = Annotated[
    float, Field(ge=0, description="An update's size is at most this times the weights'; 0: off.")
]


class EightBit(Section):
    """What all of them have in common."""

    kind: str
    min_8bit_size: int = Field(default=4096, ge=0)
    """Smaller weights keep averages of 32 bits."""


class AdamW8bit(EightBit):
    """AdamW in 8 bits."""

    kind: Literal["adamw_8bit"] = "adamw_8bit"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: Decay = 0.01


class Adam8bit(EightBit):
    """Adam in 8 bits; bitsandbytes decouples its weight decay as AdamW's."""

    kind: Literal["adam_8bit"] = "adam_8bit"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


class AdEMAMix8bit(EightBit):
    """AdEMAMix in 8 bits."""

    kind: Literal["ademamix_8bit"] = "ademamix_8bit"
    betas: ThreeBetas = (0.9, 0.999, 0.9999)
    alpha: float = Field(default=5.0, ge=0)
    """Weight of the slow average."""
    eps: Eps = 1e-8
    weight_decay: Decay = 0.01


class Lion8bit(EightBit):
    """Lion in 8 bits."""

    kind: Literal["lion_8bit"] = "lion_8bit"
    betas: Betas = (0.9, 0.99)
    weight_decay: Decay = 0.0


class SGD8bit(EightBit):
    """SGD with momentum in 8 bits."""

    kind: Literal["sgd_8bit"] = "sgd_8bit"
    momentum: Momentum = 0.9
    weight_decay: Penalty = 0.0


class AdaGrad8bit(EightBit):
    """AdaGrad in 8 bits."""

    kind: Literal["adagrad_8bit"] = "adagrad_8bit"
    eps: Eps = 1e-10
    weight_decay: Penalty = 0.0


class RMSprop8bit(EightBit):
    """RMSprop in 8 bits."""

    kind: Literal["rmsprop_8bit"] = "rmsprop_8bit"
    alpha: Annotated[Beta, Field(gt=0)] = 0.99
    """How slowly the average of the squared gradient changes."""
    eps: Eps = 1e-8
    weight_decay: Penalty = 0.0


class Lars8bit(EightBit):
    """LARS in 8 bits."""

    kind: Literal["lars_8bit"] = "lars_8bit"
    momentum: Momentum = 0.9
    weight_decay: Penalty = 0.0
    max_unorm: MaxUpdate = 0.02
