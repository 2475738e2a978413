"""Epochs: what the epochs of a training will be on a dataset that is planned or made."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.versions import Version, read_rows
from tasks.config.models import Config
from tasks.epochs.columns import ORDER_COLUMNS
from tasks.epochs.outlook import outlook
from tasks.epochs.settings import order_settings
from tasks.stage import Context

COLUMNS = (*ORDER_COLUMNS, "split", "original_width", "original_height")


def planned_epochs(config: Config, rows: pa.Table) -> dict[str, Any] | None:
    """The epochs of a planned dataset; None when it has nothing to train on.

    `at_most` says that some of its tiles may still turn out to be blank.
    """
    certain = bool(pc.all(rows["certain"], min_count=0).as_py())
    return _epochs(config, rows, None, at_most=not certain)


def version_epochs(config: Config, version: Version) -> dict[str, Any] | None:
    """The epochs of a dataset version; None when it has nothing to train on."""
    rows = read_rows(Context(config).store, version, COLUMNS)
    return _epochs(config, rows, version.content_digest, at_most=False)


def _epochs(
    config: Config, rows: pa.Table, digest: str | None, *, at_most: bool
) -> dict[str, Any] | None:
    if not pc.any(pc.equal(rows["split"], "train"), min_count=0).as_py():
        return None
    train = config.train
    settings = order_settings(config, digest)
    record = outlook(rows, settings, epochs=train.epochs, max_steps=train.max_steps)
    return record.as_json() | {"at_most": at_most}
