"""Optimizers of the package pytorch-optimizer."""

from typing import Literal

from pydantic import Field

from tasks.config.optimizers.fields import (
    Beta,
    Betas,
    Dampening,
    Decay,
    Decouple,
    Eps,
    Momentum,
    Nesterov,
    Penalty,
    Rectify,
    ThreeBetas,
)
from tasks.config.section import Section


class Lion(Section):
    """The sign of a momentum; a third of AdamW's rate (pytorch-optimizer)."""

    kind: Literal["lion"] = "lion"
    betas: Betas = (0.9, 0.99)
    weight_decay: Decay = 0.0


class Tiger(Section):
    """The sign of one momentum (pytorch-optimizer)."""

    kind: Literal["tiger"] = "tiger"
    beta: Beta = 0.965
    """How slowly the average of the gradient changes."""
    weight_decay: Decay = 0.01


class SignSGD(Section):
    """The sign of the momentum (pytorch-optimizer)."""

    kind: Literal["sign_sgd"] = "sign_sgd"
    momentum: Momentum = 0.9
    weight_decay: Decay = 0.0


class Came(Section):
    """Adafactor with a confidence in each update (pytorch-optimizer)."""

    kind: Literal["came"] = "came"
    betas: ThreeBetas = (0.9, 0.999, 0.9999)
    eps1: Eps = 1e-30
    eps2: Eps = 1e-16
    clip_threshold: float = Field(default=1.0, gt=0)
    """Updates of a greater root mean square are scaled down to it."""
    weight_decay: Decay = 0.01


class Muon(Section):
    """Momentum made orthogonal, for matrices; AdamW for the rest (pytorch-optimizer)."""

    kind: Literal["muon"] = "muon"
    momentum: Momentum = 0.95
    nesterov: Nesterov = True
    ns_steps: int = Field(default=5, ge=1)
    """Newton-Schulz iterations, which make a matrix orthogonal."""
    use_adjusted_lr: bool = False
    """Scale the rate by the size of the matrix, so that AdamW's learning rates fit."""
    weight_decay: Decay = 0.0
    adamw_rate: float = Field(default=0.015, gt=0)
    """What is no matrix trains by AdamW at this times the learning rate."""
    adamw_betas: Betas = (0.9, 0.95)
    adamw_eps: Eps = 1e-10


class AdaMuon(Section):
    """Muon with Adam's second average, for matrices; AdamW for the rest (pytorch-optimizer)."""

    kind: Literal["adamuon"] = "adamuon"
    betas: Betas = (0.9, 0.95)
    ns_steps: int = Field(default=5, ge=1)
    """Newton-Schulz iterations, which make a matrix orthogonal."""
    eps: Eps = 1e-10
    weight_decay: Decay = 0.0
    adamw_rate: float = Field(default=1.0, gt=0)
    """What is no matrix trains by AdamW at this times the learning rate."""
    adamw_betas: Betas = (0.9, 0.999)


class AdEMAMix(Section):
    """AdamW with a second, very slow average of the gradient (pytorch-optimizer)."""

    kind: Literal["ademamix"] = "ademamix"
    betas: ThreeBetas = (0.9, 0.999, 0.9999)
    alpha: float = Field(default=5.0, ge=0)
    """Weight of the slow average."""
    t_alpha_beta3: int | None = Field(default=None, ge=1)
    """Steps in which the slow average and its weight come to full effect; default: at once."""
    eps: Eps = 1e-8
    weight_decay: Decay = 0.01


class Adopt(Section):
    """Adam that divides by the average of before this step (pytorch-optimizer)."""

    kind: Literal["adopt"] = "adopt"
    betas: Betas = (0.9, 0.9999)
    eps: Eps = 1e-6
    weight_decay: Penalty = 0.0
    weight_decouple: Decouple = False


class Adan(Section):
    """Adam with Nesterov's momentum, rewritten (pytorch-optimizer)."""

    kind: Literal["adan"] = "adan"
    betas: ThreeBetas = (0.98, 0.92, 0.99)
    eps: Eps = 1e-8
    weight_decay: Decay = 0.02


class Lamb(Section):
    """AdamW with a rate for each layer, for large batches (pytorch-optimizer)."""

    kind: Literal["lamb"] = "lamb"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0
    rectify: Rectify = False


class Lars(Section):
    """SGD with a rate for each layer, for large batches (pytorch-optimizer)."""

    kind: Literal["lars"] = "lars"
    momentum: Momentum = 0.9
    dampening: Dampening = 0.0
    nesterov: Nesterov = False
    trust_coefficient: float = Field(default=0.001, gt=0)
    """A layer's step, as a share of the size of its weights."""
    weight_decay: Penalty = 0.0


class AdaBelief(Section):
    """Adam that divides by how much gradients surprise (pytorch-optimizer)."""

    kind: Literal["adabelief"] = "adabelief"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-16
    weight_decay: Decay = 0.01
    rectify: Rectify = True


class Yogi(Section):
    """Adam whose second average changes evenly (pytorch-optimizer)."""

    kind: Literal["yogi"] = "yogi"
    betas: Betas = (0.9, 0.999)
    initial_accumulator: float = Field(default=1e-6, ge=0)
    """What both averages start with."""
    eps: Eps = 1e-3
    weight_decay: Decay = 0.0


class Aida(Section):
    """AdaBelief that compares gradient and momentum by direction (pytorch-optimizer)."""

    kind: Literal["aida"] = "aida"
    betas: Betas = (0.9, 0.999)
    k: int = Field(default=2, ge=0)
    """How often gradient and momentum are projected on each other."""
    xi: Eps = 1e-20
    eps: Eps = 1e-8
    weight_decay: Penalty = 0.0
    rectify: Rectify = False
