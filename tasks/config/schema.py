"""Questions about the shape of `Config`: which keys a table may have, what a key accepts.

A place is a tuple of keys and list positions, for instance ("concepts", 0, "image"). Unions are
told apart by their `kind`, so the raw data of the place decides which keys are valid there.
"""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from tasks.config.models import Config

Place = tuple[str | int, ...]


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a type: the members of a union, else the type itself."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(one for part in get_args(annotation) for one in members(part))
    return (annotation,)


def tables(annotation: Any) -> dict[str, type[BaseModel]]:
    """The config tables among the alternatives, by the `kind` that chooses them ("" without)."""
    found = {}
    for one in members(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            kind = one.model_fields.get("kind")
            choices = get_args(kind.annotation) if kind else ("",)
            found.update({str(choice): one for choice in choices})
    return found


def is_union(annotation: Any) -> bool:
    """Whether `kind` chooses between several tables here."""
    return len({id(one) for one in tables(annotation).values()}) > 1


def _step(annotation: Any, key: str | int, value: Any) -> Any:
    """The type under `key` of a value of type `annotation`; None when there is no such key."""
    for one in members(annotation):
        if get_origin(one) is tuple and (isinstance(key, int) or key.isdecimal()):
            return get_args(one)[0]
    found = tables(annotation)
    if not found:
        return None
    kind = str(value.get("kind", "")) if isinstance(value, Mapping) else ""
    table = found.get(kind, next(iter(found.values())))
    field = table.model_fields.get(str(key))
    return None if field is None else field.annotation


def child(value: Any, key: str | int) -> Any:
    """What lies under a key or list position of raw data; None when nothing does."""
    if isinstance(value, Mapping):
        return value.get(str(key))
    if isinstance(value, list) and str(key).isdecimal() and int(key) < len(value):
        return value[int(key)]
    return None


def type_at(place: Place, data: Any) -> Any:
    """The type at a place; None when the place does not exist."""
    annotation: Any = Config
    for key in place:
        annotation = _step(annotation, key, data)
        data = child(data, key)
        if annotation is None:
            return None
    return annotation


def keys_at(place: Place, data: Any) -> list[str]:
    """The valid keys of the table at a place; empty when it is no table."""
    found = tables(type_at(place, data))
    for key in place:
        data = child(data, key)
    kind = str(data.get("kind", "")) if isinstance(data, Mapping) else ""
    table = found.get(kind) or next(iter(found.values()), None)
    return list(table.model_fields) if table else []


def choices_at(place: Place, data: Any) -> list[Any]:
    """The values that a choice at a place allows; empty when it is no choice."""
    return [
        choice
        for one in members(type_at(place, data))
        if get_origin(one) is Literal
        for choice in get_args(one)
    ]


def takes_text(place: Place, data: Any) -> bool:
    """Whether the setting at a place is free text, so that `512` means the text "512"."""
    return str in members(type_at(place, data))


def all_keys(annotation: Any = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key there is; list positions are written as 0."""
    for table in dict.fromkeys(tables(annotation).values()):
        for name, field in table.model_fields.items():
            yield prefix + name
            yield from all_keys(field.annotation, f"{prefix}{name}.")
            for one in members(field.annotation):
                if get_origin(one) is tuple:
                    yield from all_keys(get_args(one)[0], f"{prefix}{name}.0.")


def dotted(place: Place) -> str:
    """A place as it is written in `--set`."""
    return ".".join(str(key) for key in place)
