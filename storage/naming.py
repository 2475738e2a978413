"""Names inside a store."""

import re
import time

from uuid_utils import uuid7

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def new_name() -> str:
    """Make a name that nobody else has; later names of one machine sort later (uuid7, hex)."""
    return uuid7().hex


def now_iso() -> str:
    """Tell the time as ISO 8601 UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def checked_word(what: str, word: str) -> str:
    """Return a word that may be a folder name in every store.

    Raises:
        ValueError: it has other characters than letters, digits, `.`, `_` and `-`.
    """
    if not _SAFE.fullmatch(word):
        raise ValueError(
            f"{what} {word!r} cannot be a folder name: use letters, digits, '.', '_' and '-', "
            "and start with a letter or a digit"
        )
    return word


def checked_path(path: str) -> str:
    """Return a relative POSIX path as it is.

    Raises:
        ValueError: it is empty, absolute, or steps outside of the store.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path:
        raise ValueError(f"not a relative path inside a store: {path!r}")
    return path


def stage_path(stage: str, stage_id: str) -> str:
    """Name the folder of a stage."""
    return f"stages/{checked_word('stage', stage)}/{checked_word('stage_id', stage_id)}"


def shard_path(base: str, shard: str) -> str:
    """Name a shard of the stage at `base`."""
    return f"{base}/shards/{shard}.safetensors"


def index_path(base: str, segment: str) -> str:
    """Name an index segment of the stage at `base`."""
    return f"{base}/index/{segment}.parquet"
