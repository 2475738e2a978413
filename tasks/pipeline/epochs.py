"""Epochs: what the epochs of a training will be on a dataset that is planned or made."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.versions import Version, read_rows
from tasks.config.models import Config
from tasks.epochs.columns import ORDER_COLUMNS
from tasks.epochs.outlook import Outlook, outlook
from tasks.epochs.settings import order_settings
from tasks.stage import Context

COLUMNS = (*ORDER_COLUMNS, "split", "original_width", "original_height")


def planned_epochs(config: Config, rows: pa.Table, same: Version | None) -> dict[str, Any] | None:
    """The epochs of a planned dataset; None when it has nothing to train on.

    Draws depend on the content, which is not known before the dataset is made: `exact` is false
    then if any are made. `at_most` says that some of its tiles may still turn out to be blank.

    Args:
        config: of the training.
        rows: the planned rows.
        same: the version that the planned dataset would equal, if there is one.
    """
    certain = bool(pc.all(rows["certain"], min_count=0).as_py())
    # A dataset's rows are sorted, and draws go by their places.
    rows = rows.select(["row_id", *COLUMNS]).sort_by("row_id")
    found = epochs_of(config, rows, same.content_digest if same else None)
    told = _json(found, at_most=not certain)
    if told and same is None and _draws(rows):
        told["exact"] = False
    return told


def version_epochs(config: Config, version: Version) -> dict[str, Any] | None:
    """The epochs of a dataset version; None when it has nothing to train on."""
    rows = read_rows(Context(config).store, version, COLUMNS)
    return _json(epochs_of(config, rows, version.content_digest), at_most=False)


def epochs_of(config: Config, rows: pa.Table, content_digest: str | None) -> Outlook | None:
    """What the epochs of a training on these rows will be; None when none of them is to be trained.

    Args:
        config: of the training.
        rows: of a dataset, with COLUMNS.
        content_digest: of the dataset; None for a planned one.
    """
    if not pc.any(pc.equal(rows["split"], "train"), min_count=0).as_py():
        return None
    settings, train = order_settings(config, content_digest), config.train
    return outlook(rows, settings, epochs=train.epochs, max_steps=train.max_steps)


def _draws(rows: pa.Table) -> bool:
    """Whether epochs train a random choice of the rows."""
    fractional = any(value % 1 for value in pc.unique(rows["repeats"]).to_pylist())
    limited = pc.any(pc.greater(rows["tiles_per_epoch"], 0), min_count=0).as_py()
    return bool(fractional or limited or rows["samples_per_epoch"].null_count < rows.num_rows)


def _json(found: Outlook | None, *, at_most: bool) -> dict[str, Any] | None:
    return None if found is None else found.as_json() | {"at_most": at_most}
