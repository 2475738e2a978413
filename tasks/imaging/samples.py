"""Samples: the views that are trained, as the crops stage left them."""

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow import with_columns


def kept_samples(crops: pa.Table) -> pa.Table:
    """The rows of the crops manifest that no filter dropped, keyed by sample.

    One row per view, image variation and grid phase; `key` is the sample_id (several rows may have
    one), `view_id` what `key` was. `logical` also names the variation of a tile, whose view is the
    same in all of them; that of a full image does so already.
    """
    kept = crops.filter(pc.is_null(crops["dropped"]))
    varied = pc.and_(pc.not_equal(kept["kind"], "full"), pc.greater(kept["variation"], 0))
    number = pc.cast(kept["variation"], pa.string())
    named = pc.binary_join_element_wise(kept["logical"], number, "|variation ")
    return with_columns(
        kept,
        view_id=kept["key"],
        key=kept["sample_id"],
        logical=pc.if_else(varied, named, kept["logical"]),
    )
