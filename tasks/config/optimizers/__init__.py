"""Optimizers: one table of settings per `kind`, each with its usual defaults.

Names and defaults are those of the libraries that build them (`tasks/train/optimizers.py`), or
OneTrainer's where its users expect others. `docs/optimizers.md` tells which is for what.
"""

from typing import Annotated

from pydantic import Field

from tasks.config.optimizers.adapted import (
    DAdaptAdaGrad,
    DAdaptAdam,
    DAdaptAdan,
    DAdaptLion,
    DAdaptSGD,
    Prodigy,
    ProdigyPlus,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
)
from tasks.config.optimizers.common import SGD, Adafactor, AdaGrad, Adam, RAdam, RMSprop
from tasks.config.optimizers.common import AdamW as AdamW
from tasks.config.optimizers.eight_bit import (
    AdaGrad8bit,
    Adam8bit,
    AdamW8bit,
    AdEMAMix8bit,
    Lars8bit,
    Lion8bit,
    RMSprop8bit,
    SGD8bit,
)
from tasks.config.optimizers.others import (
    AdaBelief,
    AdaMuon,
    Adan,
    AdEMAMix,
    Adopt,
    Aida,
    Came,
    Lamb,
    Lars,
    Lion,
    Muon,
    SignSGD,
    Tiger,
    Yogi,
)
from tasks.config.schedules import Schedule as Schedule

Optimizer = Annotated[
    AdamW
    | Adam
    | RAdam
    | SGD
    | AdaGrad
    | RMSprop
    | Adafactor
    | Lion
    | Tiger
    | SignSGD
    | Came
    | Muon
    | AdaMuon
    | AdEMAMix
    | Adopt
    | Adan
    | Lamb
    | Lars
    | AdaBelief
    | Yogi
    | Aida
    | Prodigy
    | ProdigyPlus
    | DAdaptAdam
    | DAdaptAdaGrad
    | DAdaptAdan
    | DAdaptLion
    | DAdaptSGD
    | ScheduleFreeAdamW
    | ScheduleFreeSGD
    | AdamW8bit
    | Adam8bit
    | AdEMAMix8bit
    | Lion8bit
    | SGD8bit
    | AdaGrad8bit
    | RMSprop8bit
    | Lars8bit,
    Field(discriminator="kind"),
]
