"""What is wrong with a configuration, said on one screen: where, the value, what is allowed."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from tasks.config import schema
from tasks.config.schema import Place

MAX_SHOWN = 7
MAX_VALUE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct."""

    key: str
    """The dotted key; empty when it is about the file as a whole."""
    message: str
    """What is allowed and what to do."""
    got: str | None = None
    """The value as it would be written in TOML; None when there is none."""
    source: str = ""
    """The file, variable or option that it comes from."""
    concerns: tuple[str, ...] = ()
    """Other keys that the problem depends on."""

    def __str__(self) -> str:
        """Two lines: place and value, then what to do."""
        where = f"  ({self.source})" if self.source else ""
        value = "" if self.got is None else f" = {self.got}"
        head = f"{self.key}{value}{where}" if self.key else self.source
        return f"  {head}\n      {self.message}"


class ConfigError(ValueError):
    """A configuration that cannot be used; lists all of its problems."""

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        super().__init__(self._text())

    def _text(self) -> str:
        count = len(self.problems)
        title = f"{count} problem{'s' if count != 1 else ''}"
        lines = [f"{title} in {self.source}" if self.source else title]
        lines += [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if count > MAX_SHOWN:
            lines.append(f"  ... and {count - MAX_SHOWN} more; correct these first")
        return "\n".join(lines)


def nearest(word: str, choices: Iterable[str], likeness: float = 0.6) -> str | None:
    """The choice that looks most like `word`; None when none looks alike."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), by_lower, 1, likeness)
    return by_lower[found[0]] if found else None


def as_toml(value: Any) -> str:
    """A value as one would write it, cut to a readable length."""
    if isinstance(value, Mapping):
        text = "{ " + ", ".join(f"{k} = {as_toml(v)}" for k, v in value.items()) + " }"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(as_toml(one) for one in value) + "]"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."


def from_pydantic(
    error: ValidationError, data: Mapping[str, Any], origin: Callable[[Place], str]
) -> dict[Place, Problem]:
    """Each pydantic error as a problem, by its place in the data."""
    problems: dict[Place, Problem] = {}
    for one in error.errors(include_url=False):
        place = _place(one["loc"], data)
        problem = Problem(schema.dotted(place), *_words(one, place, data))
        problems.setdefault(place, replace(problem, source=origin(place)))
    return problems


def _place(loc: tuple[int | str, ...], data: Any) -> Place:
    """A pydantic location without the union tags, which are no keys of the user's."""
    place: Place = ()
    for part in loc:
        annotation = schema.type_at(place, data)
        if schema.is_union(annotation) and part in schema.tables(annotation):
            continue
        place += (part,)
    return place


def _words(error: Any, place: Place, data: Mapping[str, Any]) -> tuple[str, str | None]:
    """(what to do, the value got) for one pydantic error."""
    got = error["input"]
    match error["type"]:
        case "missing":
            return "is missing; it has no default and must be given", None
        case "extra_forbidden":
            message = _unknown(place, data)
        case "literal_error" | "union_tag_invalid" | "union_tag_not_found":
            message = _choice(place, data, got)
        case "string_type" if not isinstance(got, Mapping | list):
            message = f'must be text; write it in quotes: "{got}"'
        case "int_type" | "int_parsing" | "int_from_float":
            message = "must be a whole number"
        case "float_type" | "float_parsing":
            message = "must be a number"
        case "bool_type" | "bool_parsing":
            message = "must be true or false"
        case "tuple_type":
            message = f"must be a list; write [{as_toml(got)}]"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"must be a table; its keys: {', '.join(schema.keys_at(place, data))}"
        case _:
            message = str(error["msg"]).replace("Input should be", "must be")
    return message, as_toml(got)


def _unknown(place: Place, data: Mapping[str, Any]) -> str:
    """Names the key that was probably meant: at the same level, else anywhere."""
    level, word = place[:-1], str(place[-1])
    keys = schema.keys_at(level, data)
    here = schema.dotted(place)
    known = dict.fromkeys(schema.all_keys())
    elsewhere = [key for key in known if key.rpartition(".")[2] == word and key != here]
    if near := nearest(word, keys, 0.8 if elsewhere else 0.6):
        return f"unknown setting; did you mean {schema.dotted((*level, near))}?"
    if elsewhere:
        return f"unknown setting here; there is {' and '.join(elsewhere[:3])}"
    return f"unknown setting; allowed here: {', '.join(keys)}"


def _choice(place: Place, data: Mapping[str, Any], got: Any) -> str:
    choices = schema.choices_at(place, data)
    if tables := schema.tables(schema.type_at(place, data)):
        choices = list(tables)
        got = got.get("kind", "") if isinstance(got, Mapping) else got
    near = nearest(str(got), [str(choice) for choice in choices])
    allowed = ", ".join(as_toml(choice) for choice in choices)
    what = "its kind must be" if tables else "must be"
    return f"{what} one of {allowed}" + (f"; did you mean {as_toml(near)}?" if near else "")
