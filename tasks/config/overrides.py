"""Overrides that come after the file: `TILEWRIGHT__STORE__URL` variables and `--set a.b=c`."""

import copy
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.config import layers, schema
from tasks.config.problems import ConfigError, Problem, as_toml
from tasks.config.schema import Place

ENV_PREFIX = "TILEWRIGHT__"
EVERY = "*"
Override = tuple[str, Place, str]
"""(where it comes from, the place that it sets, the value as written)"""


def from_env(env: Mapping[str, str]) -> list[Override]:
    """The overrides in the environment, in the order of their names."""
    return [
        (name, tuple(name.removeprefix(ENV_PREFIX).lower().split("__")), env[name])
        for name in sorted(env)
        if name.startswith(ENV_PREFIX)
    ]


def from_options(options: Iterable[str]) -> list[Override]:
    """The overrides of `--set KEY=VALUE` options (or form lines) in their order; skips blanks."""
    found: list[Override] = []
    for option in filter(str.strip, options):
        key, equals, value = option.partition("=")
        if not equals or not all(key.strip().split(".")):
            message = "must look like key=value, for instance train.epochs=3"
            raise ConfigError([Problem("--set", message, got=as_toml(option))], "the command line")
        found.append((f"--set {option}", tuple(key.strip().split(".")), value.strip()))
    return found


def apply(data: dict[str, Any], override: Override) -> dict[str, Any]:
    """A copy of `data` with one override in it; a position `*` is every position of a list."""
    source, place, text = override
    if EVERY in place:
        at = place.index(EVERY)
        for number in range(_length(data, place[:at], source)):
            data = apply(data, (source, (*place[:at], number, *place[at + 1 :]), text))
        return data
    data = copy.deepcopy(data)
    value = layers.anchored(place, _value(place, text, data, source), Path.cwd())
    target: Any = data
    for depth, key in enumerate(place[:-1]):
        target = _descend(target, key, place[: depth + 1], source)
    _assign(target, place, value, data, source)
    return data


def _length(data: Any, place: Place, source: str) -> int:
    """How many entries a list has."""
    for key in place:
        data = schema.child(data, key)
    if isinstance(data, list):
        return len(data)
    message = f"is no list: {EVERY} stands for every position of one"
    raise ConfigError([Problem(schema.dotted(place), message, source=source)])


def _value(place: Place, text: str, data: Mapping[str, Any], source: str) -> Any:
    """A TOML value; what is none is text, and a text setting takes numbers as written."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ('"', "'", "[", "{"):
            message = f"is no TOML value: {error}"
            raise ConfigError([Problem(schema.dotted(place), message, text, source)]) from None
        return text
    is_text = schema.takes_text(place, data) and not isinstance(value, str | list | dict)
    return text if is_text else value


def _descend(target: Any, key: str | int, place: Place, source: str) -> Any:
    if isinstance(target, list):
        return target[_position(target, key, place, source)]
    if isinstance(target, dict):
        return target.setdefault(key, {})
    message = f"is the value {as_toml(target)}, which has no settings inside"
    raise ConfigError([Problem(schema.dotted(place[:-1]), message, source=source)])


def _assign(target: Any, place: Place, value: Any, data: Mapping[str, Any], source: str) -> None:
    key = place[-1]
    if isinstance(target, list):
        target[_position(target, key, place, source)] = value
    elif isinstance(target, dict):
        changed = key == "kind" and target.get("kind") not in (None, value)
        if changed and schema.is_union(schema.type_at(place[:-1], data)):
            target.clear()  # the options of another kind mean nothing to this one
        target.update(layers.merged(target, {str(key): value}, place[:-1]))
    else:
        _descend(target, key, place, source)


def _position(items: list[Any], key: str | int, place: Place, source: str) -> int:
    if str(key).isdecimal() and int(key) < len(items):
        return int(key)
    allowed = f"0 to {len(items) - 1}" if items else "none, the list is empty"
    message = f"{schema.dotted(place[:-1])} is a list; positions: {allowed}"
    raise ConfigError([Problem(schema.dotted(place), message, source=source)])
