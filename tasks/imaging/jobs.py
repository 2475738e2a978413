"""Jobs: the missing items of a stage, grouped so that every source is decoded once."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from tasks.imaging.views import View


@dataclass(frozen=True, slots=True)
class SourceJob:
    """One source and the views that are wanted of it, each with its item key."""

    path: str
    source_id: bytes
    views: dict[View, bytes]


def source_jobs(rows: pa.Table) -> Iterator[SourceJob]:
    """The jobs of a table of views (columns key, path, source_id and the geometry)."""
    for (path, source_id), group in groupby(rows.to_pylist(), key=itemgetter("path", "source_id")):
        yield SourceJob(path, source_id, {row_view(row): row["key"] for row in group})


def row_view(row: dict[str, Any]) -> View:
    """The view that a row of the crops manifest describes."""
    return View(
        kind=row["kind"],
        scale=row["scale"],
        resized=(row["resized_width"], row["resized_height"]),
        rect=(row["left"], row["top"], row["width"], row["height"]),
        target=(row["bucket_width"], row["bucket_height"]),
    )
