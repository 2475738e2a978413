"""From the rows of a dataset, or of a planned one, to the columns that the order depends on."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrow import as_array, leading_uint64
from tasks.epochs.entries import Ints, OrderColumns

ORDER_COLUMNS = (
    *("source_id", "concept", "kind", "scale", "left", "top", "resized_width", "resized_height"),
    *("bucket_width", "bucket_height", "resolution_index", "variation", "phase", "num_phases"),
    *("repeats", "samples_per_epoch", "tiles_per_epoch"),
)
"""What `order_columns` reads of the DATASET schema."""
_LARGEST = 2**62


def order_columns(table: pa.Table) -> tuple[OrderColumns, tuple[str, ...]]:
    """The order's columns of training rows, and the name of each bucket code, such as 512x768."""
    table = table.select(ORDER_COLUMNS).combine_chunks()
    bucket, buckets = _buckets(table)
    concept = codes(table["concept"])
    source = codes(table["source_id"])
    is_tile = pc.not_equal(table["kind"], "full").to_numpy()
    resolution, num_resolutions = _resolutions(table, concept, source)
    variation, num_variations = _variations(table, concept, source, is_tile)
    order = OrderColumns(
        bucket=bucket,
        concept=concept,
        # Stored as float32; rounding brings 0.1 back from 0.10000000149.
        repeats=table["repeats"].to_numpy().astype(np.float64).round(6),
        samples=_integers(table, "samples_per_epoch", -1),
        phase=_integers(table, "phase", -1),
        num_phases=_integers(table, "num_phases", 1),
        group_hash=leading_uint64(table["source_id"]),
        resolution=resolution,
        num_resolutions=num_resolutions,
        variation=variation,
        num_variations=num_variations,
        tile_group=_joined(concept, source),
        tile_limit=np.where(is_tile, _integers(table, "tiles_per_epoch", 0), 0),
    )
    return order, buckets


def codes(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Dense codes of a column's values, 0 for its first value."""
    encoded = pc.dictionary_encode(as_array(column), null_encoding="encode")
    found: Ints = encoded.indices.to_numpy().astype(np.int64)
    return found


def _resolutions(table: pa.Table, concept: Ints, source: Ints) -> tuple[Ints, Ints]:
    """Each row's number among the resolutions of its group, and how many the group has.

    A group is what one epoch trains in one resolution: a source, in a concept, of one kind and
    scale. Counting within the group keeps a source with a single resolution in every epoch. Rows
    that are trained whatever the resolution (a resolution_index of -1) are groups of their own.
    """
    index = _integers(table, "resolution_index", 0)
    if (index == index[:1]).all():
        return _only(index)
    return _ranks(
        _joined(concept, source, codes(table["kind"]), codes(table["scale"]), index < 0), index
    )


def _variations(
    table: pa.Table, concept: Ints, source: Ints, is_tile: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Each row's number among the variations of its view, and how many there are.

    Variations with equal draws are one row, so a view may have fewer than another. A full view is
    the same view wherever its jitter moves it; a tile is known by its place.
    """
    variation = _integers(table, "variation", 0)
    if (variation == variation[:1]).all():
        return _only(variation)
    names = ("resized_width", "resized_height", "left", "top", "phase")
    place = [np.where(is_tile, _integers(table, name, -1) + 1, 0) for name in names]
    index = _integers(table, "resolution_index", 0) + 1
    view = _joined(concept, source, codes(table["kind"]), index, *place)
    return _ranks(view, variation)


def _only(like: Ints) -> tuple[Ints, Ints]:
    return np.zeros_like(like), np.ones_like(like)


def _ranks(group: Ints, value: Ints) -> tuple[Ints, Ints]:
    """The place of each value among the distinct values of its group, and how many those are."""
    turn = np.lexsort((value, group))
    new_group = np.diff(group[turn], prepend=-1) != 0
    new_value = new_group | (np.diff(value[turn], prepend=-1) != 0)
    running = np.cumsum(new_value)
    group_of = np.cumsum(new_group) - 1
    sorted_rank = running - running[np.flatnonzero(new_group)][group_of]
    counts = np.zeros(group_of[-1] + 1, dtype=np.int64)
    np.maximum.at(counts, group_of, sorted_rank + 1)
    rank, count = np.empty_like(sorted_rank), np.empty_like(sorted_rank)
    rank[turn], count[turn] = sorted_rank, counts[group_of]
    return rank, count


def _joined(*columns: NDArray[Any]) -> Ints:
    """Dense codes of the distinct rows of several columns of small non-negative integers."""
    joined, values = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        num_values = int(column.max(initial=0)) + 1
        if values * num_values > _LARGEST:
            joined = codes(pa.array(joined))
            values = int(joined.max(initial=0)) + 1
        joined, values = joined * num_values + column, values * num_values
    return codes(pa.array(joined))


def _buckets(table: pa.Table) -> tuple[Ints, tuple[str, ...]]:
    width, height = _integers(table, "bucket_width", 0), _integers(table, "bucket_height", 0)
    values, bucket = np.unique(width * 2**20 + height, return_inverse=True)
    return bucket.astype(np.int64), tuple(f"{v >> 20}x{v & (2**20 - 1)}" for v in values.tolist())


def _integers(table: pa.Table, name: str, null: int) -> Ints:
    values: Ints = pc.fill_null(table[name].cast(pa.int64()), null).to_numpy()
    return values
