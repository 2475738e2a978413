"""Reviews: which generated captions a person has looked at."""

import pyarrow as pa
import pyarrow.compute as pc

from storage.naming import new_name, now_iso
from storage.records import REVIEWS
from storage.segments import read_segments, write_segment
from storage.store import Store
from tasks.arrow import as_array
from tasks.wording.resolve import GENERATED

_FOLDER = "reviews"


def pending(store: Store, captions: pa.Table) -> pa.Table:
    """The generated captions of a manifest that nobody has approved yet; an edit needs no review.

    The key of a caption says what was asked about which pixels, so a caption that is made anew for
    another reason is another one; one that is merely made again is approved already.
    """
    generated = captions.filter(pc.equal(captions["origin"], GENERATED))
    seen = [segment.table for segment in read_segments(store, list(store.list(_FOLDER)), ["key"])]
    known = pa.concat_tables([REVIEWS.empty_table().select(["key"]), *seen])
    return generated.filter(pc.invert(pc.is_in(generated["key"], as_array(known["key"]))))


def approve(store: Store, captions: pa.Table, note: str = "") -> int:
    """Notes that the captions of a manifest were looked at; returns how many were new.

    Args:
        store: where this is kept.
        captions: the manifest.
        note: what the person had to say.
    """
    new = pending(store, captions)
    if new.num_rows:
        made_at = pa.array([now_iso()] * new.num_rows, pa.string())
        table = pa.table([new["key"], new["view_id"], made_at], schema=REVIEWS)
        facts = {"created_at": now_iso(), "items": new.num_rows, "note": note}
        write_segment(store, f"{_FOLDER}/{new_name()}.parquet", table, facts)
    return int(new.num_rows)
