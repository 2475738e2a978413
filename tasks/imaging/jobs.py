"""Jobs: the missing items of a stage, grouped so that every source is decoded once."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from tasks.imaging.augment import Values
from tasks.imaging.views import View


@dataclass(frozen=True, slots=True)
class SourceJob:
    """One source and the views that are wanted of it, each with its item key."""

    path: str
    source_id: bytes
    views: dict[View, bytes]


@dataclass(frozen=True, slots=True)
class SampleJob:
    """One source and the samples that are wanted of it."""

    path: str
    source_id: bytes
    samples: dict[View, dict[bytes, Values]]
    """Of each view, which is cut once, the augmentation of every item by its key."""


def source_jobs(rows: pa.Table) -> Iterator[SourceJob]:
    """The jobs of a table of views (columns key, path, source_id and the geometry)."""
    for (path, source_id), group in groupby(rows.to_pylist(), key=itemgetter("path", "source_id")):
        yield SourceJob(path, source_id, {row_view(row): row["key"] for row in group})


def sample_jobs(rows: pa.Table) -> Iterator[SampleJob]:
    """The jobs of a table of samples (as `source_jobs`, and the column augmentation)."""
    for (path, source_id), group in groupby(rows.to_pylist(), key=itemgetter("path", "source_id")):
        yield SampleJob(path, source_id, by_view(group))


def by_view(rows: Iterable[dict[str, Any]]) -> dict[View, dict[bytes, Values]]:
    """The augmentation of every item by its key, for each view of one source."""
    samples: dict[View, dict[bytes, Values]] = {}
    for row in rows:
        augmentation = row["augmentation"]
        values: Values = json.loads(augmentation) if augmentation else {}
        samples.setdefault(row_view(row), {})[row["key"]] = values
    return samples


def row_view(row: dict[str, Any]) -> View:
    """The view that a row of the crops manifest describes."""
    return View(
        kind=row["kind"],
        scale=row["scale"],
        resized=(row["resized_width"], row["resized_height"]),
        rect=(row["left"], row["top"], row["width"], row["height"]),
        target=(row["bucket_width"], row["bucket_height"]),
    )
