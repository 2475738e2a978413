"""What a report is made from: the tables' columns, and finding the rows of one source quickly."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SourceName = tuple[str, str]
"""Concept and path: what a person calls one source."""

VIEWS = pa.schema(
    [
        ("key", pa.binary(16)),
        ("concept", pa.string()),
        ("path", pa.string()),
        ("kind", pa.string()),
        ("scale", pa.float32()),
        ("left", pa.int32()),
        ("top", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("resized_width", pa.int32()),
        ("resized_height", pa.int32()),
        ("luma_std", pa.float32()),
        ("edge_share", pa.float32()),
        ("dropped_reason", pa.string()),
    ]
)
"""Measured views. Rectangle: source pixels for `full`, pixels of the resized image for tiles.

`dropped_reason` is null for what is kept. A scale that gave no tiles is one row with a null
rectangle whose `dropped_reason` says why.
"""

SCANNED = pa.schema(
    [
        ("concept", pa.string()),
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
    ]
)
"""Every image file that the scan found; sizes are null where the header could not be read."""

ROW_COLUMNS = (
    "concept",
    "path",
    "source_id",
    "kind",
    "scale",
    "resized_width",
    "resized_height",
    "bucket_width",
    "bucket_height",
    "original_width",
    "original_height",
    "resolution_index",
    "phase",
    "variation",
    "split",
    "prompts",
    "prompt_origin",
    "repeats",
)
"""The columns of a dataset version that a report reads."""

REJECT_COLUMNS = ("stage", "path", "reason", "first_seen", "attempts")
"""The columns of the quarantine that a report reads."""


@dataclass(frozen=True)
class BySource:
    """A table and, for each source, the numbers of its rows (in table order)."""

    table: pa.Table
    places: dict[SourceName, np.ndarray[Any, np.dtype[np.int64]]]

    def rows(self, name: SourceName) -> list[dict[str, Any]]:
        """Return the rows of one source; none when the table has none."""
        places = self.places.get(name)
        return [] if places is None else list(self.table.take(pa.array(places)).to_pylist())

    def count(self, name: SourceName) -> int:
        """Return how many rows one source has."""
        return len(self.places.get(name, ()))


def require_columns(table: pa.Table, names: tuple[str, ...] | list[str], what: str) -> pa.Table:
    """Return the named columns of a table.

    Raises:
        ValueError: A column is missing.
    """
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"the report's {what} table lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(table.column_names)}"
        )
    return table.select(list(names))


def group_by_source(table: pa.Table) -> BySource:
    """Find the rows of every (concept, path) without turning the table into Python objects."""
    if table.num_rows == 0:
        return BySource(table, {})
    concepts, paths = (
        pc.dictionary_encode(table[name].combine_chunks()) for name in ("concept", "path")
    )
    codes = concepts.indices.to_numpy().astype(np.int64) * len(paths.dictionary)
    codes += paths.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    values, starts = np.unique(codes[order], return_index=True)
    parts = np.split(order, starts[1:])
    names = _names(values, concepts.dictionary.to_pylist(), paths.dictionary.to_pylist())
    return BySource(table, dict(zip(names, parts, strict=True)))


def _names(
    codes: np.ndarray[Any, np.dtype[np.int64]], concepts: list[str], paths: list[str]
) -> Iterator[SourceName]:
    for code in codes.tolist():
        concept, path = divmod(code, len(paths))
        yield concepts[concept], paths[path]
