"""Kept: versions that a person has asked to keep, each by a small file beside its JSON."""

import json
import re

from storage.naming import checked_word, now_iso
from storage.pins import pinned
from storage.store import Store

_MARK = re.compile(r"datasets/([^/]+)/([0-9]{6,})\.keep")


def keep_version(store: Store, name: str, number: int) -> None:
    """Keeps a version until it is released.

    Raises:
        NotFoundError: there is no such version.
    """
    with pinned(store, "train", name, number):  # so that no sweep takes it at this very moment
        store.put_if_absent(_path(name, number), json.dumps({"kept_at": now_iso()}).encode())


def release_version(store: Store, name: str, number: int) -> bool:
    """Takes that back; returns whether it was kept."""
    path = _path(name, number)
    there = store.exists(path)
    store.delete(path)
    return there


def kept_by_hand(store: Store) -> dict[tuple[str, int], str]:
    """The (name, number) of the versions that are kept, with the reason."""
    marks = (_MARK.fullmatch(path) for path in store.list("datasets"))
    return {(mark[1], int(mark[2])): "it is kept by --keep" for mark in marks if mark}


def _path(name: str, number: int) -> str:
    return f"datasets/{checked_word('dataset name', name)}/{number:06}.keep"
