"""Samples: the views that are trained, as the crops stage left them."""

import pyarrow as pa
import pyarrow.compute as pc


def kept_samples(crops: pa.Table) -> pa.Table:
    """The rows of the crops manifest that no filter dropped, keyed by sample.

    One row per view, image variation and grid phase; `key` is the sample_id (several rows may have
    one), `view_id` what `key` was.
    """
    kept = crops.filter(pc.is_null(crops["dropped"]))
    samples = kept.append_column("view_id", kept["key"]).drop_columns(["key"])
    return samples.append_column("key", kept["sample_id"])
