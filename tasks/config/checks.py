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
from tasks.config.worker_checks import worker_problems

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
    yield from worker_problems(config, problem)


def _data(config: Config, problem: Report) -> Iterator[Problem]:
    if not NAME.fullmatch(config.data.name):
        message = "must be made of letters, digits, '.', '_' and '-' (it names a folder)"
        yield problem(("data", "name"), message)


def _output(config: Config, problem: Report) -> Iterator[Problem]:
    if misfits := list(_output_format(config, problem)):
        yield from misfits
        return
    place, name = ("model", "output"), config.model.output
    is_file, chosen = Path(name).suffix == ".safetensors", config.model.output_format
    several = chosen == "embedding" and len(config.train.embeddings) > 1
    if (chosen == "diffusers" or several) and is_file:
        why = "several words are a folder" if several else f'output_format = "{chosen}" is a folder'
        message = f"must be a folder without suffix, since {why}"
        yield problem(place, message, "model.output_format")
    elif chosen != "diffusers" and not several and not is_file:
        yield problem(place, "must end with .safetensors", "model.output_format")


def _output_format(config: Config, problem: Report) -> Iterator[Problem]:
    from tasks.families import FAMILIES
    from tasks.families.output_formats import allowed_formats, why_not

    family, method = FAMILIES.get(config.model.family), config.train.method.kind
    reason = family and why_not(family, method, config.model.output_format)
    if family is None or reason is None:
        return
    allowed = allowed_formats(family, method)
    hint = f"use {' or '.join(as_toml(name) for name in allowed)}" if allowed else "none can"
    fit = f"does not fit train.method.kind = {as_toml(method)} of {family.name}"
    yield problem(
        ("model", "output_format"), f"{fit}: {reason}; {hint}", "train.method", "train.method.kind"
    )
