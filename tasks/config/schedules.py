"""Learning-rate schedules: how the rate changes in the course of a run."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.config.section import Section

CUSTOM_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
PLACEHOLDERS = ("%LR%", "%EPOCHS%", "%STEPS_PER_EPOCH%", "%TOTAL_STEPS%", "%SCHEDULER_STEPS%")
"""What a value of `params` can stand for; the last is the steps after warm-up."""
IS_PLACEHOLDER = re.compile("%.*%").fullmatch
ALLOWED = ", ".join(PLACEHOLDERS)


class Schedule(Section):
    """Learning-rate schedule with linear warm-up."""

    kind: Literal[
        "constant",
        "linear",
        "cosine",
        "cosine_with_restarts",
        "cosine_with_hard_restarts",
        "rex",
        "polynomial",
        "inverse_sqrt",
        "adafactor",
        "custom",
    ] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps in which the learning rate rises from 0."""
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    """The same as a share of all steps; give one of the two."""
    min_factor: float = Field(default=0.0, ge=0, le=1)
    """The learning rate ends at this share of its peak (not constant, custom)."""
    cycles: float = Field(default=1.0, gt=0)
    """cosine_with_restarts: how often the rate rises again; cosine_with_hard_restarts: how often it
    falls."""
    power: float = Field(default=1.0, gt=0)
    """polynomial: 1 falls in a straight line, more falls early."""
    function: Annotated[str, Field(pattern=CUSTOM_NAME.pattern)] | None = None
    """custom: `module:name` of a scheduler class of torch, or of a function of step and number of
    steps that gives the share of the peak rate."""
    params: dict[str, float | int | str | bool] = {}
    """custom: further arguments; the values "%LR%", "%EPOCHS%", "%STEPS_PER_EPOCH%",
    "%TOTAL_STEPS%" and "%SCHEDULER_STEPS%" stand for those numbers."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_steps and self.warmup_fraction:
            raise ValueError("give warmup_steps or warmup_fraction, not both")
        if self.kind == "custom" and self.function is None:
            raise ValueError('kind = "custom" needs function = "module:name"')
        for value in self.params.values():
            if isinstance(value, str) and IS_PLACEHOLDER(value) and value not in PLACEHOLDERS:
                raise ValueError(f"{value} in params stands for nothing; use {ALLOWED}")
        return self
