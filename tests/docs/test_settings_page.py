"""docs/settings.md lists every setting as the models define it; --golden=write makes it anew."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tasks.config.models import Config
from tasks.config.problems import as_toml
from tasks.config.schema import members, tables

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
MARK = "<!-- generated: pytest tests/docs --golden=write -->\n"
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def test_the_page_lists_every_setting(request: pytest.FixtureRequest) -> None:
    head, _, found = PAGE.read_text().partition(MARK)
    wanted = "\n".join(section_lines("", "Top level", Config)) + "\n"
    if request.config.getoption("--golden") == "write":
        PAGE.write_text(head + MARK + wanted)
    else:
        assert found == wanted, "docs/settings.md is out of date: pytest tests/docs --golden=write"


def section_lines(path: str, title: str, table: type[BaseModel]) -> Iterator[str]:
    """The section of a table, then those of the tables in it."""
    yield from ("", f"### {title}", "", _sentence(table.__doc__ or ""), "")
    plain = {n: f for n, f in table.model_fields.items() if not tables_of(f)}
    if plain:
        yield from ("| setting | default | allowed | meaning |", "|---|---|---|---|")
    for name, field in plain.items():
        meaning = _sentence(field.description or "")
        yield f"| `{name}` | {_default(field)} | {_allowed(field)} | {meaning} |"
    for name, field in table.model_fields.items():
        for kind, inner in tables_of(field).items():
            deeper = f"{path}.{name}" if path else name
            brackets = f"`[[{deeper}]]`" if is_list(field) else f"`[{deeper}]`"
            chosen = f' with `kind = "{kind}"`' if kind else ""
            yield from section_lines(deeper, brackets + chosen, inner)


def tables_of(field: FieldInfo) -> dict[str, type[BaseModel]]:
    found = tables(field.annotation)
    for one in members(field.annotation):
        if get_origin(one) is tuple:
            found |= tables(get_args(one)[0])
    return found


def is_list(field: FieldInfo) -> bool:
    return any(get_origin(one) is tuple for one in members(field.annotation))


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "*required*"
    if field.default is None:
        return "–"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{as_toml(value)}`"


def _allowed(field: FieldInfo) -> str:
    limits = [f"{sign} {getattr(one, name):g}" for one in field.metadata for name, sign in LIMITS
              if getattr(one, name, None) is not None]  # fmt: skip
    return ", ".join([_type(field.annotation), *limits])


LIMITS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


def _type(annotation: Any) -> str:
    names = []
    for one in members(annotation):
        if get_origin(one) is Literal:
            names.append(" or ".join(f"`{as_toml(choice)}`" for choice in get_args(one)))
        elif get_origin(one) is tuple:
            names.append(f"list of {_type(get_args(one)[0])}")
        elif get_origin(one) is dict:
            names.append(f"table of {_type(get_args(one)[1])}")
        elif one is not type(None):
            names.append(NAMES[one])
    return " or ".join(names)


def _sentence(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
