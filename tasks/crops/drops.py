"""Drops: views that a person took out of training, whatever they measure.

What was said last about a view counts. It is kept by the view's key, so it holds for these pixels
in every dataset of the store, however their file is called.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from storage.naming import new_name, now_iso
from storage.records import DROPS
from storage.segments import read_segments, write_segment
from storage.store import Store

DROPPED = "a person dropped it"
SHOWN_DIGITS = 10
"""So much of a view's key names it for people."""
_FOLDER = "drops"


@dataclass(frozen=True, slots=True)
class Named:
    """The views that people meant, and the names that say nothing."""

    views: tuple[bytes, ...]
    unknown: tuple[str, ...]


def short_name(view_id: bytes) -> str:
    """What people call a view."""
    return view_id.hex()[:SHOWN_DIGITS]


def named_views(views: Iterable[bytes], names: Sequence[str]) -> Named:
    """The views whose keys begin with the names; a name that fits several or none is unknown."""
    keys = {view.hex(): view for view in views}
    found: dict[bytes, None] = {}
    unknown = []
    for name in names:
        start = name.strip().strip("#`").lower()
        fitting = [view for key, view in keys.items() if start and key.startswith(start)]
        if len(fitting) == 1:
            found[fitting[0]] = None
        else:
            unknown.append(name)
    return Named(tuple(found), tuple(unknown))


def dropped_views(store: Store) -> set[bytes]:
    """The views that are out of training now."""
    last: dict[bytes, bool] = {}
    for segment in read_segments(store, sorted(store.list(_FOLDER)), ["view_id", "dropped"]):
        last.update(zip(*segment.table.to_pydict().values(), strict=True))
    return {view for view, dropped in last.items() if dropped}


def drop(store: Store, views: Iterable[bytes], *, dropped: bool = True) -> int:
    """Takes views out of training, or back in; returns for how many that was news."""
    known = dropped_views(store)
    new = [view for view in views if (view in known) != dropped]
    if new:
        columns = {
            "view_id": new,
            "dropped": [dropped] * len(new),
            "made_at": [now_iso()] * len(new),
        }
        facts = {"created_at": now_iso(), "items": len(new)}
        path = f"{_FOLDER}/{new_name()}.parquet"
        write_segment(store, path, pa.table(columns, schema=DROPS), facts)
    return len(new)
