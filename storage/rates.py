"""How fast stages were in earlier runs: small records, the newest few of each stage."""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields

from storage.errors import NotFoundError
from storage.naming import checked_word, new_name
from storage.store import Store

KEPT = 20
"""Records of a stage; older ones are deleted when a new one is added."""
_NAME = re.compile(r"[0-9a-f]{32}\.json")
_MADE = re.compile(r"[0-9a-f]{32}\.")
_READERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One run of a stage that is done."""

    stage: str
    stage_id: str
    items: int
    units: float
    """The work that was done, in the stage's own measure, such as megapixels."""
    seconds: float
    """Of work, without planning; partitions that ran side by side add up."""
    nbytes: int
    """Written into the store."""
    device: str
    """Kind of device that did it: cpu or cuda."""
    host: str
    finished_at: str
    """ISO 8601, UTC."""


def append_rate(store: Store, rate: Rate) -> None:
    """Adds a record, and deletes the oldest ones beyond KEPT."""
    data = json.dumps(asdict(rate), sort_keys=True).encode()
    store.put_if_absent(f"{_folder(rate.stage)}/{new_name()}.json", data)
    for path in _paths(store, rate.stage)[KEPT:]:
        store.delete(path)


def read_rates(store: Store, stage: str, most: int = KEPT) -> list[Rate]:
    """The newest records of a stage, the newest first; damaged ones are left out."""
    paths = _paths(store, stage)[:most]
    if not paths:
        return []
    with ThreadPoolExecutor(min(_READERS, len(paths))) as pool:
        found = pool.map(lambda path: _read(store, path), paths)
        return [rate for rate in found if rate is not None]


def written_since(store: Store, folders: Sequence[str], moment: str) -> int:
    """Bytes of the files below folders whose names, as `new_name` makes them, are younger.

    Another run that writes at the same time is counted with it.
    """
    return sum(
        nbytes
        for folder in folders
        for path, nbytes in store.list(folder).items()
        if _MADE.match(name := path.rpartition("/")[2]) and name > moment
    )


def _folder(stage: str) -> str:
    return f"rates/{checked_word('stage', stage)}"


def _paths(store: Store, stage: str) -> list[str]:
    """The records of a stage, the newest first; files of another name are none of ours."""
    paths = [path for path in store.list(_folder(stage)) if _NAME.fullmatch(path.split("/")[-1])]
    return sorted(paths, reverse=True)


def _read(store: Store, path: str) -> Rate | None:
    with suppress(NotFoundError, ValueError, TypeError, KeyError):
        known = json.loads(store.read_bytes(path))
        return Rate(**{field.name: known[field.name] for field in fields(Rate)})
    return None
