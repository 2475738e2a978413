"""What a report is made from: the columns of its tables, and the numbering of its sources."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrow import as_array

Ints = NDArray[np.int64]

KINDS = ("full", "detail", "context")
REJECTED = ""
"""Stands for the concept of a file that no table but the rejects names."""

VIEWS = pa.schema(
    [
        ("key", pa.binary(16)),
        ("concept", pa.string()),
        ("path", pa.string()),
        ("kind", pa.string()),
        ("scale", pa.float32()),
    ]
    + [
        (name, pa.int32())
        for name in (
            *("left", "top", "width", "height", "resized_width", "resized_height"),
            *("bucket_width", "bucket_height", "original_width", "original_height"),
        )
    ]
    + [(name, pa.int16()) for name in ("resolution_index", "variation", "phase", "num_phases")]
    + [
        ("luma_std", pa.float32()),
        ("edge_share", pa.float32()),
        ("augmentation", pa.string()),
        ("dropped_reason", pa.string()),
    ]
)
"""Measured views, one row per variation and grid phase, with the meanings of the crops manifest.

`key` is the view_id; `dropped_reason` is null for what is kept. A scale that gave no tiles is one
row with a null rectangle whose `dropped_reason` says why.
"""

SCANNED = pa.schema(
    [
        ("concept", pa.string()),
        ("path", pa.string()),
        ("source_id", pa.binary(16)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("frames", pa.int32()),
    ]
)
"""Every readable image file that the scan found."""

ROW_COLUMNS = (
    *("concept", "path", "source_id", "view_id", "sample_id", "kind", "scale"),
    *("left", "top", "width", "height", "resized_width", "resized_height"),
    *("bucket_width", "bucket_height", "original_width", "original_height"),
    *("resolution_index", "phase", "num_phases", "variation", "augmentation", "split"),
    *("prompts", "prompt_origin", "context", "luma_std", "edge_share"),
    *("loss_weight", "repeats", "samples_per_epoch", "tiles_per_epoch"),
)
"""The columns of a dataset version that a report reads."""

REJECT_COLUMNS = ("stage", "path", "reason", "first_seen", "attempts")
"""The columns of the rejected files that a report reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of one dataset version."""

    rows: pa.Table
    """The version, one row per sample (ROW_COLUMNS of DATASET)."""
    views: pa.Table
    """All measured views, kept and dropped (schema VIEWS)."""
    scan: pa.Table
    """All readable files (schema SCANNED)."""
    rejects: pa.Table
    """What could not be used (REJECT_COLUMNS)."""
    previous: pa.Table | None = None
    """The rows of the version before; None where there is none."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a report, numbered: by concept, then path; unusable files last."""

    names: pa.Array
    """`concept NUL path`."""
    concepts: list[str]
    concept: Ints
    """Per source, its place in `concepts`."""
    paths: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def numbers(self, table: pa.Table) -> Ints:
        """The source of each row of a table; -1 where it is none of these."""
        found = pc.fill_null(pc.index_in(source_names(table), self.names), -1)
        return np.asarray(found, dtype=np.int64)

    def count(self, table: pa.Table) -> Ints:
        """How many rows of a table each source has."""
        return np.bincount(self.numbers(table), minlength=len(self))


def checked(tables: Tables) -> Tables:
    """The tables with the columns that a report reads, and no others.

    Raises:
        ValueError: A column is missing.
    """
    previous = tables.previous
    return Tables(
        rows=require_columns(tables.rows, ROW_COLUMNS, "rows"),
        views=require_columns(tables.views, VIEWS.names, "views"),
        scan=require_columns(tables.scan, SCANNED.names, "scan"),
        rejects=require_columns(tables.rejects, REJECT_COLUMNS, "rejects"),
        previous=None if previous is None else require_columns(previous, ROW_COLUMNS, "previous"),
    )


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
    return table.select(list(names)).combine_chunks()


def number_sources(tables: Tables) -> Sources:
    """Every source that a table names, and every rejected file."""
    known = pa.concat_arrays(
        [source_names(table) for table in (tables.scan, tables.rows, tables.views)]
    )
    known = pc.unique(known)
    known = known.take(pc.sort_indices(known))
    concepts, paths = _split(known)
    rejected = pc.unique(as_array(tables.rejects["path"]))
    rejected = rejected.filter(pc.invert(pc.is_in(rejected, pa.array(paths, pa.string()))))
    rejected = rejected.take(pc.sort_indices(rejected))
    lost = pc.binary_join_element_wise(REJECTED, rejected, "\0")
    concepts += [REJECTED] * len(rejected)
    codes = {name: number for number, name in enumerate(dict.fromkeys(concepts))}
    return Sources(
        names=pa.concat_arrays([known, lost]),
        concepts=list(codes),
        concept=np.array([codes[name] for name in concepts], dtype=np.int64),
        paths=[*paths, *rejected.to_pylist()],
    )


def source_names(table: pa.Table) -> pa.Array:
    """`concept NUL path` of every row."""
    columns = [as_array(table[name]).cast(pa.string()) for name in ("concept", "path")]
    return pc.binary_join_element_wise(*columns, "\0")


def ints(values: pa.Array | pa.ChunkedArray, missing: int = -1) -> Ints:
    """A column of integers with a number in place of null."""
    return np.asarray(pc.fill_null(as_array(values).cast(pa.int64()), missing), dtype=np.int64)


def _split(names: pa.Array) -> tuple[list[str], list[str]]:
    pairs = [name.split("\0", 1) for name in names.to_pylist()]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
