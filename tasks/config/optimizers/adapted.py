"""Optimizers that find their learning rate, or average weights instead of lowering it."""

from typing import Literal

from pydantic import Field

from tasks.config.optimizers.fields import (
    AveragePower,
    Beta,
    Betas,
    Decay,
    Decouple,
    Eps,
    FirstDistance,
    Growth,
    Momentum,
    Penalty,
    RatePower,
    ThreeBetas,
)
from tasks.config.section import Section

PRODIGY_PLUS = "prodigy_plus"
ONE_RATE = ("prodigy", "dadapt_adam", "dadapt_adagrad", "dadapt_adan", "dadapt_lion", "dadapt_sgd")
"""They find one rate for all parts together."""
SCHEDULE_FREE = ("schedule_free_adamw", "schedule_free_sgd", PRODIGY_PLUS)
"""They average weights instead of lowering the rate."""


class Prodigy(Section):
    """Adam that finds its learning rate; leave `learning_rate` at 1 (pytorch-optimizer)."""

    kind: Literal["prodigy"] = "prodigy"
    betas: Betas = (0.9, 0.999)
    beta3: Beta | None = None
    """How slowly the guess of the distance changes; default: the square root of the second beta."""
    d0: FirstDistance = 1e-6
    d_coef: float = Field(default=1.0, gt=0)
    """Multiplies the learning rate that was found; the knob to turn."""
    growth_rate: Growth = None
    bias_correction: bool = False
    """Correct the averages of the first steps, as Adam does."""
    safeguard_warmup: bool = False
    """Keep the guess from growing too fast while the schedule warms up."""
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0
    weight_decouple: Decouple = True


class ProdigyPlus(Section):
    """Prodigy with schedule-free averaging (prodigy-plus-schedule-free)."""

    kind: Literal["prodigy_plus"] = "prodigy_plus"
    betas: Betas = (0.9, 0.99)
    beta3: Beta | None = None
    """How slowly the guess of the distance changes; default: the square root of the second beta."""
    d0: FirstDistance = 1e-6
    d_coef: float = Field(default=1.0, gt=0)
    """Multiplies the learning rate that was found; the knob to turn."""
    d_limiter: bool = True
    """Let the guess grow only a little per step."""
    prodigy_steps: int = Field(default=0, ge=0)
    """Stop searching for the rate after so many steps; 0: never."""
    use_speed: bool = False
    """Another, experimental way to find the rate."""
    split_groups: bool = True
    """Find a rate for each part of the model by itself."""
    split_groups_mean: bool = False
    """Take the mean of the rates found for the parts."""
    factored: bool = True
    """Store the second average as a row and a column."""
    use_stableadamw: bool = True
    """Scale large updates down."""
    use_cautious: bool = False
    """Leave out what goes against the present gradient."""
    use_bias_correction: bool = False
    """Hold back the first steps, whose averages are unsure (RAdam)."""
    schedulefree_c: float = Field(default=0.0, ge=0)
    """Greater than 0: averages react faster; 6 to 200 for short to long runs."""
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


class DAdaptAdam(Section):
    """Adam that finds its learning rate; leave `learning_rate` at 1 (pytorch-optimizer)."""

    kind: Literal["dadapt_adam"] = "dadapt_adam"
    betas: Betas = (0.9, 0.999)
    d0: FirstDistance = 1e-6
    growth_rate: Growth = None
    bias_correction: bool = False
    """Correct the averages of the first steps, as Adam does."""
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0
    weight_decouple: Decouple = False


class DAdaptAdaGrad(Section):
    """AdaGrad that finds its learning rate (pytorch-optimizer)."""

    kind: Literal["dadapt_adagrad"] = "dadapt_adagrad"
    momentum: Momentum = 0.0
    d0: FirstDistance = 1e-6
    growth_rate: Growth = None
    eps: float = Field(default=0.0, ge=0)
    """Keeps divisions by small numbers tame."""
    weight_decay: Penalty = 0.0


class DAdaptAdan(Section):
    """Adan that finds its learning rate (pytorch-optimizer)."""

    kind: Literal["dadapt_adan"] = "dadapt_adan"
    betas: ThreeBetas = (0.98, 0.92, 0.99)
    d0: FirstDistance = 1e-6
    growth_rate: Growth = None
    eps: Eps = 1e-8
    weight_decay: Decay = 0.02


class DAdaptLion(Section):
    """Lion that finds its learning rate (pytorch-optimizer)."""

    kind: Literal["dadapt_lion"] = "dadapt_lion"
    betas: Betas = (0.9, 0.999)
    d0: FirstDistance = 1e-6
    weight_decay: Decay = 0.0


class DAdaptSGD(Section):
    """SGD that finds its learning rate (pytorch-optimizer)."""

    kind: Literal["dadapt_sgd"] = "dadapt_sgd"
    momentum: Momentum = 0.0
    d0: FirstDistance = 1e-6
    growth_rate: Growth = None
    weight_decay: Penalty = 0.0


class ScheduleFreeAdamW(Section):
    """AdamW whose weights are averaged instead of its rate lowered (pytorch-optimizer)."""

    kind: Literal["schedule_free_adamw"] = "schedule_free_adamw"
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: Decay = 0.01
    r: AveragePower = 0.0
    weight_lr_power: RatePower = 2.0


class ScheduleFreeSGD(Section):
    """SGD whose weights are averaged instead of its rate lowered (pytorch-optimizer)."""

    kind: Literal["schedule_free_sgd"] = "schedule_free_sgd"
    momentum: float = Field(default=0.9, gt=0, lt=1)
    """How near to the averaged weights gradients are taken."""
    weight_decay: Decay = 0.01
    r: AveragePower = 0.0
    weight_lr_power: RatePower = 2.0
