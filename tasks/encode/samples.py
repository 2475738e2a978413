"""Samples: the views that are trained, as the crops stage left them."""

import pyarrow as pa
import pyarrow.compute as pc

from tasks.stage import with_columns


def kept_samples(crops: pa.Table) -> pa.Table:
    """The views that no filter dropped; `key` is the sample_id and `view_id` what it was."""
    kept = crops.filter(pc.is_null(crops["dropped"]))
    return with_columns(kept, view_id=kept["key"], key=kept["sample_id"])
