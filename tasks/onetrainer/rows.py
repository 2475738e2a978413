"""Rows of the import tables: where a setting of OneTrainer's goes, or why it goes nowhere.

A table is a dict literal from OneTrainer's key to a `Row`. A row knows OneTrainer's default, so
that a file which does not say something still means here what it means there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tasks.onetrainer.paths import Paths

Kind = Literal["not yet", "different", "not needed", "unknown"]


@dataclass(frozen=True, slots=True)
class Put:
    """One setting of run.toml."""

    key: str
    """Our dotted key; inside a concept's table from the concept on. `*` means every concept."""
    value: Any
    note: str = ""
    """What was converted: the comment beside it. A setting with a note is always written."""
    always: bool = False
    """Written although the file would mean the same without it."""


@dataclass(frozen=True, slots=True)
class Left:
    """Why a value has no place in run.toml, and what to do."""

    kind: Kind
    why: str


Answer = Put | Left

UNKNOWN = Left("unknown", "no setting of OneTrainer's that this import knows")


@dataclass(frozen=True, slots=True)
class View:
    """The settings of one table of a file: what it says, else OneTrainer's defaults."""

    given: Mapping[str, Any]
    """Flat: `unet.train`, `image.enable_crop_jitter`."""
    rows: "Table"
    paths: Paths
    run: "View | None" = None
    """For a concept: the settings of the whole run, where the file has them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is already known of the result, such as the family's size multiple."""

    def __getitem__(self, key: str) -> Any:
        row = self.rows[key]
        value = self.given.get(key, row.default)
        return row.default if value is None and not row.nullable else _typed(value, row.default)

    def says(self, key: str) -> bool:
        """Whether the file itself has a value there."""
        return key in self.given and (self.given[key] is not None or self.rows[key].nullable)


Convert = Callable[[Any, View], Iterable[Answer]]


@dataclass(frozen=True, slots=True)
class Row:
    """What becomes of one setting."""

    default: Any
    """OneTrainer's."""
    convert: Convert
    nullable: bool = False
    """Whether null is a value of its own."""
    secret: bool = False
    """Whether the value must not be shown."""


Table = Mapping[str, Row]


def same(key: str, default: Any) -> Row:
    """A setting that has the same meaning here."""
    return Row(default, lambda value, _: [Put(key, value)])


def choice(key: str, default: str, choices: Mapping[str, str]) -> Row:
    """A setting with the same choices under other names."""

    def convert(value: Any, _: View) -> Iterable[Answer]:
        if str(value) in choices:
            return [Put(key, choices[str(value)])]
        return [Left("unknown", f"no such choice; known: {', '.join(choices)}")]

    return Row(default, convert)


def taken(default: Any = None) -> Row:
    """A setting that another row, or the reading of the file, has already used."""
    return Row(default, lambda *_: ())


def left(kind: Kind, default: Any, why: str, quiet: Collection[Any] = ()) -> Row:
    """A setting without a place here; nothing is told of its default and of `quiet` values."""

    def convert(value: Any, _: View) -> Iterable[Answer]:
        return () if value == default or value in quiet else [Left(kind, why)]

    return Row(default, convert)


def later(default: Any, why: str, quiet: Collection[Any] = ()) -> Row:
    """A setting that a later version brings."""
    return left("not yet", default, why, quiet)


def unlike(default: Any, why: str, quiet: Collection[Any] = ()) -> Row:
    """A setting that works in another way here."""
    return left("different", default, why, quiet)


def unneeded(default: Any, why: str, quiet: Collection[Any] = ()) -> Row:
    """A setting whose purpose is met without it."""
    return left("not needed", default, why, quiet)


def only(applies: Callable[[View], bool], row: Row) -> Row:
    """The row where `applies`; elsewhere OneTrainer does not read the setting either."""
    return replace(
        row, convert=lambda value, view: row.convert(value, view) if applies(view) else ()
    )


BAD_VALUE = (TypeError, ValueError, AttributeError, KeyError, OverflowError)


def answers(row: Row, value: Any, view: View) -> list[Answer]:
    """What a row says of a value; one that makes no sense is told, and the default counts.

    OneTrainer too keeps its default then.
    """
    try:
        return list(row.convert(value, view))
    except BAD_VALUE as error:
        why = f"not a value that OneTrainer writes here ({_reason(error)}); its default counts"
    try:
        return [*row.convert(row.default, view), Left("unknown", why)]
    except BAD_VALUE:  # another setting, which this one goes by, makes no sense either
        return [Left("unknown", why)]


def _typed(value: Any, default: Any) -> Any:
    """Numbers that were written as text (OneTrainer reads those too) as numbers."""
    if isinstance(value, str) and isinstance(default, int | float):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
