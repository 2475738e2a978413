"""Columns and tables of small datasets for tests of the order."""

from typing import Any

import numpy as np
import pyarrow as pa

from storage.digest import digest
from storage.records import DATASET
from tasks.epochs.columns import ORDER_COLUMNS
from tasks.epochs.entries import OrderColumns, OrderSettings


def make_columns(bucket, **columns) -> OrderColumns:
    """Rows that every epoch trains once, but for the given columns."""
    count = len(bucket)
    defaults = {
        "concept": [0] * count,
        "repeats": [1.0] * count,
        "samples": [-1] * count,
        "phase": [-1] * count,
        "num_phases": [1] * count,
        "group_hash": list(range(count)),
        "resolution": [0] * count,
        "num_resolutions": [1] * count,
        "variation": [0] * count,
        "num_variations": [1] * count,
        "tile_group": [0] * count,
        "tile_limit": [0] * count,
    }
    dtypes = {"repeats": np.float64, "group_hash": np.uint64}
    arrays = {
        name: np.array(values, dtype=dtypes.get(name, np.int64))
        for name, values in ({"bucket": bucket} | defaults | columns).items()
    }
    return OrderColumns(**arrays)


def make_settings(**changes) -> OrderSettings:
    facts = {"content_digest": "d", "seed": 1, "batch_size": 2, "step_size": 1}
    return OrderSettings(**(facts | changes))


def make_row(source: str = "a", **columns: Any) -> dict[str, Any]:
    """The columns of one row that the order and its outlook read."""
    size = {"original_width": 800, "original_height": 600, "split": "train"}
    place = {"left": 0, "top": 0, "resized_width": 400, "resized_height": 300}
    place |= {"bucket_width": 384, "bucket_height": 256, "phase": None, "num_phases": 1}
    which = {"resolution_index": 0, "variation": 0, "kind": "full", "scale": 0.0}
    often = {"repeats": 1.0, "samples_per_epoch": None, "tiles_per_epoch": 0}
    known = {"source_id": digest("source", source), "concept": "c"}
    return {**size, **place, **which, **often, **known, **columns}


def make_tile(source: str = "a", **columns: Any) -> dict[str, Any]:
    """The same of a tile of a grid."""
    tile = {"kind": "detail", "scale": 2.0, "bucket_width": 64, "bucket_height": 64}
    return make_row(source, **(tile | columns))


def make_table(rows: list[dict[str, Any]]) -> pa.Table:
    """A table like that of a planned dataset: without the locations of items."""
    names = [*ORDER_COLUMNS, "original_width", "original_height", "split"]
    return pa.Table.from_pylist(rows, schema=pa.schema([DATASET.field(name) for name in names]))
