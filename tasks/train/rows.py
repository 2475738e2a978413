"""The rows of a dataset version as columns: what order, batches and errors need to know of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.epochs.order import Ints, OrderColumns

if TYPE_CHECKING:
    from storage.reading import ItemRef
    from storage.store import Store
    from storage.versions import Version

ORDER_COLUMNS = (
    *("source_id", "concept", "kind", "scale", "bucket_width", "bucket_height"),
    *("resolution_index", "variation", "phase", "num_phases", "repeats"),
)
SIZE_COLUMNS = (
    *("original_height", "original_width", "resized_height", "resized_width"),
    *("crop_top", "crop_left", "bucket_height", "bucket_width"),
)
LATENT_COLUMNS = tuple(
    f"latent_{name}" for name in ("stage", "shard", "offset", "nbytes", "layout", "xxh3")
)
BATCH_COLUMNS = (*LATENT_COLUMNS, "texts", "prompts")
COLUMNS = (*ORDER_COLUMNS, *SIZE_COLUMNS, *BATCH_COLUMNS, "row_id", "path", "loss_weight", "split")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The training rows of a dataset version (N rows, sorted by row_id)."""

    order: OrderColumns
    buckets: tuple[str, ...]
    """Bucket code to its name, such as 512x768."""
    sizes: NDArray[np.float32]
    """(N, 6): height and width of the original, crop top and left, height and width trained."""
    loss_weight: NDArray[np.float32]
    items: pa.Table
    """BATCH_COLUMNS, one row per row."""
    names: pa.Table
    """row_id and path, for messages."""
    unconditional: "Mapping[str, ItemRef]"
    """The empty prompt's item, by text encoder."""
    content_digest: str

    def name(self, row: int) -> str:
        """How messages name a row: its id and the path of its image."""
        row_id: bytes = self.names["row_id"][row].as_py()
        return f"{row_id.hex()} ({self.names['path'][row].as_py()})"


def load_rows(store: "Store", version: "Version") -> Rows:
    """The training rows of a version; ValueError when it has none."""
    from storage.versions import read_rows

    columns = list(dict.fromkeys(COLUMNS))
    table = read_rows(store, version, columns=columns)
    table = table.filter(pc.equal(table["split"], "train")).combine_chunks()
    if not table.num_rows:
        raise ValueError(
            f"dataset {version.name}@{version.number} has no training rows; "
            "see its report for what was rejected and why"
        )
    bucket, buckets = _buckets(table)
    extra = version.meta["extra"]
    return Rows(
        order=_order_columns(table, bucket),
        buckets=buckets,
        sizes=_sizes(table),
        loss_weight=_numpy(table, "loss_weight").astype(np.float32),
        items=table.select(BATCH_COLUMNS),
        names=table.select(["row_id", "path"]),
        unconditional={text["encoder"]: text_ref(text) for text in extra["unconditional"]},
        content_digest=version.content_digest,
    )


def _sizes(table: pa.Table) -> NDArray[np.float32]:
    """What SDXL is conditioned on: original size, crop offset and target size.

    To the model a tile is a crop of a photo as large as its resized source.
    """
    columns = {name: _numpy(table, name) for name in SIZE_COLUMNS}
    is_tile = pc.not_equal(table["kind"], "full").to_numpy()
    for edge in ("height", "width"):
        resized, original = columns.pop(f"resized_{edge}"), columns[f"original_{edge}"]
        columns[f"original_{edge}"] = np.where(is_tile, resized, original)
    return np.stack(list(columns.values()), 1).astype(np.float32)


def latent_ref(item: Mapping[str, Any]) -> "ItemRef":
    """Where the latent of a row of `Rows.items` is stored."""
    from storage.reading import ItemRef

    stage, shard, offset, nbytes, layout, xxh3 = (item[name] for name in LATENT_COLUMNS)
    return ItemRef(stage, shard, offset, nbytes, layout, xxh3)


def text_ref(text: Mapping[str, Any]) -> "ItemRef":
    """Where a text of a row's `texts` is stored."""
    from storage.reading import ItemRef

    return ItemRef(
        text["stage"],
        text["shard"],
        text["offset"],
        text["nbytes"],
        text["layout"],
        text["xxh3"],
    )


def _order_columns(table: pa.Table, bucket: Ints) -> OrderColumns:
    alternative, num_alternatives = _alternatives(table)
    return OrderColumns(
        bucket=bucket,
        concept=_codes(table["concept"]),
        # Stored as float32; rounding brings 0.1 back from 0.10000000149.
        repeats=_numpy(table, "repeats").astype(np.float64).round(6),
        phase=pc.fill_null(table["phase"], -1).to_numpy().astype(np.int64),
        num_phases=_numpy(table, "num_phases").astype(np.int64),
        group_hash=_leading_uint64(table["source_id"].to_pylist()),
        alternative=alternative,
        num_alternatives=num_alternatives,
    )


def _alternatives(table: pa.Table) -> tuple[Ints, Ints]:
    """Each row's number among the (resolution, variation) pairs of its group, and how many.

    A group is what one epoch trains in one alternative: a source, in a concept, of one kind and
    scale. Counting within the group keeps a source with a single resolution in every epoch.
    """
    variation = _numpy(table, "variation").astype(np.int64)
    index = _numpy(table, "resolution_index").astype(np.int64)
    pair = index * (variation.max() + 1) + variation
    if (pair == pair[0]).all():
        return np.zeros(len(pair), dtype=np.int64), np.ones(len(pair), dtype=np.int64)
    group = np.zeros(len(pair), dtype=np.int64)
    for name in ("concept", "kind", "scale", "source_id"):
        codes = _codes(table[name])
        group = np.unique(group * (codes.max() + 1) + codes, return_inverse=True)[1]
    turn = np.lexsort((pair, group))
    new_group = np.diff(group[turn], prepend=-1) != 0
    new_pair = new_group | (np.diff(pair[turn], prepend=-1) != 0)
    running = np.cumsum(new_pair)
    group_of = np.cumsum(new_group) - 1
    rank = running - running[np.flatnonzero(new_group)][group_of]
    counts = np.zeros(group_of[-1] + 1, dtype=np.int64)
    np.maximum.at(counts, group_of, rank + 1)
    alternative, num_alternatives = np.empty_like(rank), np.empty_like(rank)
    alternative[turn], num_alternatives[turn] = rank, counts[group_of]
    return alternative, num_alternatives


def _buckets(table: pa.Table) -> tuple[Ints, tuple[str, ...]]:
    width, height = _numpy(table, "bucket_width"), _numpy(table, "bucket_height")
    code = width.astype(np.int64) * 2**20 + height
    values, bucket = np.unique(code, return_inverse=True)
    return bucket.astype(np.int64), tuple(f"{v >> 20}x{v & (2**20 - 1)}" for v in values.tolist())


def _codes(column: pa.ChunkedArray) -> Ints:
    """Dense codes of a column's values, 0 for its first value."""
    encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    codes: Ints = encoded.indices.to_numpy().astype(np.int64)
    return codes


def _leading_uint64(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(key[:8] for key in keys), dtype="<u8")


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table[name].to_numpy()
    return values
