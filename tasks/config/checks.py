"""Checks of settings against each other and against the files that they name."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.config import schema
from tasks.config.concept_checks import concept_problems
from tasks.config.family_checks import Report, family_problems
from tasks.config.models import Config
from tasks.config.objective_checks import objective_problems
from tasks.config.optimizer_checks import optimizer_problems
from tasks.config.problems import Problem, as_toml
from tasks.config.schema import Place

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FORMATS = {"full": ("diffusers",), "lora": ("kohya_lora", "diffusers_lora")}
LATER_FORMATS = ("single_file", "embedding")


def check(
    config: Config, data: Mapping[str, Any], origin: Callable[[Place], str]
) -> Iterator[Problem]:
    """All problems between the settings of a config whose types are right.

    Args:
        config: the config.
        data: the raw data it was made of, which knows what was said and what is a default.
        origin: names the file that says what is at a place.
    """

    def problem(place: Place, message: str, *concerns: str) -> Problem:
        value: Any = data
        for key in place:
            value = schema.child(value, key)
        got = None if value is None else as_toml(value)
        return Problem(schema.dotted(place), message, got, origin(place), concerns)

    yield from _data(config, problem)
    yield from _output(config, problem)
    yield from concept_problems(config, problem)
    yield from family_problems(config, problem)
    yield from optimizer_problems(config, problem)
    yield from objective_problems(config, problem)


def _data(config: Config, problem: Report) -> Iterator[Problem]:
    if not NAME.fullmatch(config.data.name):
        message = "must be made of letters, digits, '.', '_' and '-' (it names a folder)"
        yield problem(("data", "name"), message)


def _output(config: Config, problem: Report) -> Iterator[Problem]:
    place = ("model", "output_format")
    chosen, method = config.model.output_format, config.train.method.kind
    allowed = FORMATS[method]
    names = " or ".join(as_toml(name) for name in allowed)
    if chosen in LATER_FORMATS:
        yield problem(place, f"comes with a later version; for now use {names}")
    elif chosen not in allowed:
        message = f"does not fit train.method.kind = {as_toml(method)}; use {names}"
        yield problem(place, message, "train.method", "train.method.kind")
    elif chosen == "diffusers" and Path(config.model.output).suffix == ".safetensors":
        message = 'must be a folder without suffix, since output_format = "diffusers" is a folder'
        yield problem(("model", "output"), message, "model.output_format")
    elif chosen != "diffusers" and Path(config.model.output).suffix != ".safetensors":
        yield problem(("model", "output"), "must end with .safetensors", "model.output_format")
