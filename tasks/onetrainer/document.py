"""run.toml as text: settings with comments beside them, and at the end what has no place."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import tomli_w

from tasks.config.problems import as_toml
from tasks.onetrainer.convert import Setting, Untaken

WIDTH = 100
MAX_KEYS = 12

HEADINGS = {
    "not yet": "Not yet: a later version brings these. Until then they have no effect.",
    "different": "Different: Tilewright does these in another way.",
    "not needed": "Not needed: nothing is lost without these.",
    "unknown": "Unknown: look these up in OneTrainer.",
}


def document(
    source: str, preset: str | None, settings: Mapping[str, Setting], left: Iterable[Untaken]
) -> str:
    """The text of a run.toml.

    Args:
        source: the file of OneTrainer's that it was made from, as people know it.
        preset: what it extends.
        settings: by our dotted key, in the order in which they are written.
        left: what was not taken over.
    """
    lines = [f"# Imported from {_one_line(source)} by `tilewright import-onetrainer`."]
    lines += ["# What has no place here is listed at the end."]
    if preset:
        lines += ["", f"extends = {_value(preset)}"]
    for header, table in _tables(settings):
        lines += ["", header]
        for name, setting in table.items():
            lines += _line(name, setting)
    return "\n".join([*lines, *_appendix(left)]) + "\n"


def _tables(settings: Mapping[str, Setting]) -> list[tuple[str, dict[str, Setting]]]:
    """(header, settings) of every table, each before the tables inside it."""
    tables: dict[tuple[str, ...], dict[str, Setting]] = {}
    for key, setting in settings.items():
        *place, name = key.split(".")
        for depth in range(1, len(place) + 1):
            tables.setdefault(tuple(place[:depth]), {})
        tables[tuple(place)][name] = setting
    return [(_header(place), table) for place, table in tables.items() if table]


def _header(place: tuple[str, ...]) -> str:
    if place[0] != "concepts":
        return f"[{'.'.join(place)}]"
    names = ("concepts", *place[2:])
    return f"[{'.'.join(names)}]" if len(place) > 2 else "[[concepts]]"


def _line(name: str, setting: Setting) -> list[str]:
    """A setting with its comment: beside it where there is room, else above it."""
    value = _value(setting.value)
    line = f"{name} = {value}"
    note = _one_line(setting.note)
    if not note:
        return [line]
    if len(line) + len(note) + 4 <= WIDTH:
        return [f"{line}  # {note}"]
    return [*_comment(note), line]


def _value(value: Any) -> str:
    """A TOML value on one line, a long list on several."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if not isinstance(value, list):
        return tomli_w.dumps({"k": value}).removeprefix("k = ").rstrip("\n")
    parts = [_value(one) for one in value]
    flat = f"[{', '.join(parts)}]"
    if len(flat) <= WIDTH - 20:
        return flat
    return "\n".join(["[", *(f"    {part}," for part in parts), "]"])


def _key(name: str) -> str:
    """A name as a TOML key."""
    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")


def _appendix(left: Iterable[Untaken]) -> list[str]:
    """The comments at the end: every setting without a place, with why and what to do."""
    by_kind: dict[str, dict[str, list[Untaken]]] = {kind: {} for kind in HEADINGS}
    for one in left:
        by_kind[one.left.kind].setdefault(one.left.why, []).append(one)
    lines: list[str] = []
    for kind, groups in by_kind.items():
        if groups:
            lines += ["", f"# {HEADINGS[kind]}"]
        for why, members in groups.items():
            lines += ["#", *(f"#   {text}" for text in _told(members))]
            lines += _comment(why, "#       ")
    return lines


def _told(members: list[Untaken]) -> list[str]:
    """Key and value of each, at most so many: concepts often say the same thing."""
    lines = []
    for one in members[:MAX_KEYS]:
        default = "  (OneTrainer's default)" if one.is_default else ""
        lines.append(f"{_one_line(one.key)} = {_shown(one.value)}{default}")
    more = len(members) - MAX_KEYS
    return [*lines, f"and {more} more"] if more > 0 else lines


def _shown(value: Any) -> str:
    return "null" if value is None else _one_line(as_toml(value))


def _comment(text: str, indent: str = "# ") -> list[str]:
    return textwrap.wrap(
        _one_line(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _one_line(text: str) -> str:
    """Text that is safe in a comment: no line ends and no control characters."""
    return "".join(char if char.isprintable() else " " for char in text)
