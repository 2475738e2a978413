"""The rows of a dataset version as columns: what order, batches and errors need to know of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.records import LOCATION
from tasks.epochs.columns import ORDER_COLUMNS, order_columns
from tasks.epochs.entries import OrderColumns

if TYPE_CHECKING:
    from storage.reading import ItemRef
    from storage.store import Store
    from storage.versions import Version

SIZE_COLUMNS = (
    *("original_height", "original_width", "resized_height", "resized_width"),
    *("crop_top", "crop_left", "bucket_height", "bucket_width"),
)
PLACE = ("stage", *LOCATION)
"""Where an item is, as `ItemRef` takes it."""
LATENT_COLUMNS = tuple(f"latent_{name}" for name in PLACE)
MASK_COLUMNS = tuple(f"mask_{name}" for name in PLACE)
BATCH_COLUMNS = (*LATENT_COLUMNS, *MASK_COLUMNS, "texts", "prompts", "concept")
VIEW_COLUMNS = (
    *("concept", "path", "source_id", "kind", "scale", "left", "top", "width", "height"),
    *("resized_width", "resized_height", "bucket_width", "bucket_height", "original_width"),
    *("original_height", "crop_left", "crop_top", "resolution_index"),
)
"""What encoding a row by itself takes."""
COLUMNS = (
    *(*ORDER_COLUMNS, *SIZE_COLUMNS, *BATCH_COLUMNS, *VIEW_COLUMNS),
    *("row_id", "loss_weight", "split"),
)

Sizes = NDArray[np.float32]
Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The training rows of a dataset version (N rows, sorted by row_id)."""

    order: OrderColumns
    buckets: tuple[str, ...]
    """Bucket code to its name, such as 512x768."""
    sizes: Sizes
    """(N, 6): height and width of the original, crop top and left, height and width trained."""
    loss_weight: NDArray[np.float32]
    is_prior: NDArray[np.bool_]
    """Whether a row trains on what the untrained model predicts for it (prior preservation)."""
    items: pa.Table
    """BATCH_COLUMNS, one row per row; and VIEW_COLUMNS unless `cached`."""
    cached: bool
    """Whether the rows have latents; without, training encodes by itself."""
    names: pa.Table
    """row_id and path, for messages."""
    unconditional: "Mapping[str, ItemRef]"
    """The empty prompt's item, by text encoder whose output is cached."""
    grey: "Mapping[str, ItemRef]" = field(default_factory=dict)
    """For an inpainting model, by bucket: the image that is all hole."""
    content_digest: str

    def name(self, row: int) -> str:
        """How messages name a row: its id and the path of its image."""
        row_id: bytes = self.names["row_id"][row].as_py()
        return f"{row_id.hex()} ({self.names['path'][row].as_py()})"


def load_rows(
    store: "Store", version: "Version", prior_concepts: Sequence[str] = (), split: Split = "train"
) -> Rows:
    """The rows of a split of a version; ValueError when it has none."""
    rows = find_rows(store, version, prior_concepts, split)
    if rows is None:
        raise ValueError(
            f"dataset {version.name}@{version.number} has no training rows; "
            "see its report for what was rejected and why"
        )
    return rows


def find_rows(
    store: "Store", version: "Version", prior_concepts: Sequence[str] = (), split: Split = "train"
) -> Rows | None:
    """The rows of a split of a version; None when it has none."""
    from storage.versions import read_rows

    columns = list(dict.fromkeys(COLUMNS))
    table = read_rows(store, version, columns=columns)
    table = table.filter(pc.equal(table["split"], split)).combine_chunks()
    if not table.num_rows:
        return None
    order, buckets = order_columns(table)
    extra = version.meta["extra"]
    cached = not table["latent_offset"].null_count
    names = BATCH_COLUMNS if cached else dict.fromkeys((*BATCH_COLUMNS, *VIEW_COLUMNS))
    return Rows(
        order=order,
        buckets=buckets,
        sizes=_sizes(table),
        loss_weight=_numpy(table, "loss_weight").astype(np.float32),
        is_prior=np.isin(_numpy(table, "concept"), list(prior_concepts)),
        items=table.select(list(names)),
        cached=cached,
        names=table.select(["row_id", "path"]),
        unconditional={text["encoder"]: item_ref(text) for text in extra["unconditional"]},
        grey={image["bucket"]: item_ref(image) for image in extra.get("grey", [])},
        content_digest=version.content_digest,
    )


def _sizes(table: pa.Table) -> Sizes:
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

    return ItemRef(*(item[name] for name in LATENT_COLUMNS))


def mask_ref(item: Mapping[str, Any]) -> "ItemRef | None":
    """Where the mask of a row of `Rows.items` is stored; None when the whole row counts."""
    from storage.reading import ItemRef

    place = [item[name] for name in MASK_COLUMNS]
    return None if place[0] is None else ItemRef(*place)


def item_ref(place: Mapping[str, Any]) -> "ItemRef":
    """Where a text of a row's `texts`, or a grey image, is stored."""
    from storage.reading import ItemRef

    return ItemRef(*(place[name] for name in PLACE))


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table[name].to_numpy()
    return values
