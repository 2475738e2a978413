"""CSV file: captions as a table that any spreadsheet opens, and reads of what it made of it.

Nothing in a cell is ever a formula: one that would begin like a formula is written with an
apostrophe before it, which is taken off again when it is read.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from tasks.config.problems import ConfigError, Problem

MAX_CELL = 30_000
"""Characters of a cell for reference; spreadsheets hold 32,767."""
DELIMITERS = (",", ";", "\t")
REQUIRED = ("view_id", "caption")
_BOM = "\ufeff"
# What spreadsheets take for a formula, also behind apostrophes: so those are counted right.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
# Keys that a spreadsheet would turn into numbers: 123e45 becomes 1.23E+47.
_NUMBER = re.compile(r"\d+(e\d+)?")
_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The caption of one tile; all but `view_id` and `caption` is for reference."""

    view_id: bytes
    concept: str = ""
    path: str = ""
    kind: str = ""
    scale: str = ""
    left: str = ""
    top: str = ""
    width: str = ""
    height: str = ""
    context: str = ""
    origin: str = ""
    caption: str = ""
    """What it trains on; several prompts are lines."""
    generated: str = ""
    """What a model answered."""
    unusable: str = ""
    """Why that is no caption."""
    model: str = ""
    place: str = ""
    """Where it was read, for messages."""


COLUMNS = tuple(field.name for field in fields(Row) if field.name != "place")


def write_rows(rows: Iterable[Row]) -> bytes:
    """The CSV of rows: UTF-8 with a byte order mark, by which spreadsheets know it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        key = row.view_id.hex()
        texts = [_escaped(getattr(row, name)) for name in COLUMNS[1:]]
        writer.writerow([f"'{key}" if _NUMBER.fullmatch(key) else key, *texts])
    return (_BOM + out.getvalue()).encode("utf-8", "replace")


def read_rows(data: bytes) -> tuple[list[Row], list[Problem]]:
    """The rows of a CSV, and what is wrong with others; rows without any text are passed over.

    Raises:
        ConfigError: nothing can be read, because it is no such table.
    """
    text = _decoded(data)
    header, delimiter = _header(text)
    rows: list[Row] = []
    problems: list[Problem] = []
    for place, cells in _records(text, delimiter, problems):
        row = _row(header, cells, place, problems)
        if row is not None:
            rows.append(row)
    return rows, problems


def _escaped(text: str) -> str:
    """A text that no spreadsheet takes for a formula; a NUL, which would cut it, is replaced."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _decoded(data: bytes) -> str:
    wrong = data.find(0)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong < 0:
        return text.removeprefix(_BOM)
    line = data.count(b"\n", 0, wrong) + 1
    message = "is not UTF-8; save the table as `CSV UTF-8` and import that"
    raise ConfigError([Problem(f"line {line}", message, f"byte 0x{data[wrong]:02x}")])


def _header(text: str) -> tuple[list[str], str]:
    """The names of the columns, and what stands between cells."""
    first: list[str] = []
    for delimiter in DELIMITERS:
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            continue
        header = [cell.strip().lower() for cell in cells]
        if set(REQUIRED) <= set(header):
            _require_once(header)
            return header, delimiter
        first = first or header
    found = ", ".join(filter(None, first))[:60]
    message = (
        f"must name the columns {' and '.join(REQUIRED)}, with a comma, a semicolon or a tab "
        "between; `tilewright captions export` writes such a table"
    )
    raise ConfigError([Problem("line 1", message, found or "nothing")])


def _require_once(header: Sequence[str]) -> None:
    for name in REQUIRED:
        if header.count(name) > 1:
            raise ConfigError([Problem("line 1", f"names the column {name} twice; remove one")])


def _records(text: str, delimiter: str, problems: list[Problem]) -> Iterator[tuple[str, list[str]]]:
    """The cells of every row that has any, with its place; ends where the table is broken."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number, last = 0, 0
    try:
        for cells in reader:
            number, line, last = number + 1, last + 1, reader.line_num
            if number > 1 and any(cells):
                yield f"line {line}" if line == number else f"row {number} (line {line})", cells
    except csv.Error as error:
        message = (
            f"cannot be read: {error}; look for a quotation mark too many or too few from here"
        )
        problems.append(Problem(f"line {last + 1}", message))


def _row(
    header: Sequence[str], cells: Sequence[str], place: str, problems: list[Problem]
) -> Row | None:
    """One row; None, and a problem, where it cannot be one."""
    texts = {name: _plain(cell) for name, cell in zip(header, cells, strict=False)}
    key = texts.pop("view_id", "").strip().strip("'").lower()
    if any(cells[len(header) :]):
        message = (
            f"has {len(cells)} cells, but there are {len(header)} columns; put a text that holds "
            "a delimiter in quotation marks"
        )
        problems.append(Problem(place, message))
    elif "caption" not in texts:
        message = "has no cell for the caption; even an empty one must be there"
        problems.append(Problem(place, message))
    elif not _KEY.fullmatch(key):
        message = (
            "must be the 32 hexadecimal digits of the export; if a spreadsheet has made a number "
            "of them, open the table anew with this column as text"
        )
        problems.append(Problem(f"{place}, view_id", message, key[:60] or "nothing"))
    else:
        known = {name: text for name, text in texts.items() if name in COLUMNS}
        return Row(view_id=bytes.fromhex(key), place=place, **known)
    return None
