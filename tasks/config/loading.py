"""From a TOML file, the environment and `--set` options to a checked `Config`."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from tasks.config import layers, overrides, presets
from tasks.config.checks import check
from tasks.config.family_checks import part_names
from tasks.config.layers import Layer
from tasks.config.models import Config, ModelConfig, StoreConfig
from tasks.config.overrides import Override
from tasks.config.problems import ConfigError, Problem, as_toml, from_pydantic
from tasks.config.schema import Place


def load_config(
    path: str | Path,
    options: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    *,
    checks: bool = True,
) -> Config:
    """Reads a run's configuration; all its paths come out absolute.

    Args:
        path: the TOML file.
        options: `a.b=c` lines, applied last.
        env: where `TILEWRIGHT__A__B` overrides are looked up; default: the process environment.
        checks: whether files are looked for and settings checked against each other.

    Raises:
        ConfigError: lists everything that is wrong, each with its place and what is allowed.
    """
    file = Path(layers.absolute(str(path), Path.cwd()))
    given = overrides.from_env(os.environ if env is None else env)
    given += overrides.from_options(options)
    return _assembled(layers.read_layers(file), given, file.parent, checks=checks)


def load_form(
    config_file: str, preset: str, filled: Iterable[Override], options: Iterable[str] = ()
) -> Config:
    """The configuration that a filled form means: a file's, or a preset's for one folder of photos.

    Relative paths of a preset and of fields start where the process runs.

    Args:
        config_file: a TOML file; empty where `preset` is given.
        preset: the name of a preset; empty where `config_file` is given.
        filled: what the fields say, over the file.
        options: `a.b=c` lines, applied last.

    Raises:
        ConfigError: lists everything that is wrong, each with its field or place.
    """
    if bool(config_file) == bool(preset):
        got = as_toml(config_file) if config_file else None
        message = "give a configuration file or choose a preset, one of the two"
        raise ConfigError([Problem("config_file", message, got)], "the form")
    given = overrides.from_env(os.environ) + list(filled) + overrides.from_options(options)
    if config_file:
        file = Path(layers.absolute(config_file, Path.cwd()))
        return _assembled(layers.read_layers(file), given, file.parent)
    stack = layers.read_layers(presets.file_of(preset), below=Path.cwd())
    stack.append(Layer("the form", {"concepts": [{}]}))
    return _assembled(stack, given, Path.cwd())


def _assembled(
    stack: list[Layer], given: list[Override], folder: Path, *, checks: bool = True
) -> Config:
    """Layers, the deepest first, then overrides; checked."""
    data: dict[str, Any] = {}
    for layer in stack:
        data = layers.merged(data, layer.data)
    for override in given:
        data = overrides.apply(data, override)
    return _validated(_completed(data, folder), stack, given, checks=checks)


def _validated(
    data: dict[str, Any], stack: list[Layer], given: list[Override], *, checks: bool
) -> Config:
    """The config, or one ConfigError with the problems of types and of meaning together."""

    def origin(place: Place) -> str:
        return _origin(place, stack, given)

    config, bad = _parsed(data, origin)
    problems = list(bad.values())
    if config is not None and checks:
        spoiled = {problem.key for problem in problems}
        problems += [
            problem
            for problem in check(config, data, origin)
            if spoiled.isdisjoint({problem.key, *problem.concerns})
        ]
    if problems or config is None:
        raise ConfigError(problems, stack[-1].source)
    return config


def _parsed(data: dict[str, Any], origin: Any) -> tuple[Config | None, dict[Place, Problem]]:
    """The config and its problems; what is wrong is left out so that the rest can be checked."""
    try:
        return Config.model_validate(data), {}
    except ValidationError as error:
        bad = from_pydantic(error, data, origin)
    try:
        return Config.model_validate(_without(data, bad)), bad
    except ValidationError:
        return None, bad


def _without(value: Any, bad: Iterable[Place], place: Place = ()) -> Any:
    """A copy of raw data without the bad places."""
    if isinstance(value, Mapping):
        kept = {key: inner for key, inner in value.items() if (*place, key) not in bad}
        return {key: _without(inner, bad, (*place, key)) for key, inner in kept.items()}
    if isinstance(value, list):
        return [_without(inner, bad, (*place, index)) for index, inner in enumerate(value)]
    return value


def _origin(place: Place, stack: list[Layer], given: list[Override]) -> str:
    """Which file, variable or option says what is at a place."""
    for source, where, _ in reversed(given):
        shorter = min(len(where), len(place))
        if [str(key) for key in where[:shorter]] == [str(key) for key in place[:shorter]]:
            return source
    return next((one.source for one in reversed(stack) if one.holds(place)), stack[-1].source)


def _completed(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fills in what depends on the file: default locations beside it, concept names."""
    store = StoreConfig.model_fields["url"].default
    output = ModelConfig.model_fields["output"].default
    model = data.get("model", {})
    if isinstance(model, Mapping) and model.get("output_format") == "diffusers":
        output = Path(output).stem  # a folder, not a file
    places = {"store": {"url": store}, "model": {"output": output}}
    places["workspace"] = Config.model_fields["workspace"].default
    data = layers.merged(layers.anchored((), places, folder), data)
    if isinstance(data.get("concepts"), list):
        data["concepts"] = [_named(concept) for concept in data["concepts"]]
    return data


def _named(concept: Any) -> Any:
    """A concept with its folder's name when it has none of its own."""
    if not isinstance(concept, Mapping) or concept.get("name") or "path" not in concept:
        return concept
    return {**concept, "name": str(concept["path"]).rstrip("/").rpartition("/")[2]}


def preset_data(name: str) -> dict[str, Any]:
    """What a preset and all that it extends say.

    Raises:
        ConfigError: there is no such preset; names the nearest.
    """
    try:
        file = presets.file_of(name)
    except ValueError as error:
        raise ConfigError([Problem("presets", str(error), name)]) from error
    data: dict[str, Any] = {}
    for layer in layers.read_layers(file):
        data = layers.merged(data, layer.data)
    return data


def resolved_preset(name: str) -> str:
    """A preset with all it extends and every default, as TOML that a config file may hold.

    Raises:
        ConfigError: there is no such preset; names the nearest.
    """
    data = preset_data(name)
    yours = [key for key, there in _REQUIRED.items() if not layers.Layer(name, data).holds(there)]
    full = Config.model_validate(layers.merged({"model": {"base": ""}, "concepts": []}, data))
    values = full.model_dump(mode="json", exclude_none=True)
    if "model.base" in yours:
        del values["model"]["base"]
    if "[[concepts]]" in yours:
        del values["concepts"]
    values["parts"] = {part: values["parts"][part] for part in part_names(full)}
    todo = f"# Yours to add: {', '.join(yours)}\n" if yours else ""
    return f"# {presets.description(name)}\n{todo}{tomli_w.dumps(values)}"


_REQUIRED: dict[str, Place] = {"model.base": ("model", "base"), "[[concepts]]": ("concepts",)}
