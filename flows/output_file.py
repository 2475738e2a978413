"""Files that a command writes where a person wants them: whole, and over nothing by accident."""

import os
from pathlib import Path

from flows.command_outcome import refuse
from storage.naming import new_name


def require_free(target: Path, key: str) -> None:
    """Refuses a place where something is already, or where nothing can be written."""
    if target.exists() or target.is_symlink():
        refuse(key, "is there already and is never overwritten; name another", str(target))
    require_folder(target, key)


def require_folder(target: Path, key: str) -> None:
    """Refuses a place whose folder is not there."""
    if target.is_dir():
        refuse(key, "is a folder; name a file", str(target))
    if not target.parent.is_dir():
        refuse(key, f"there is no folder {target.parent}; make it first", str(target))


def write_new(target: Path, data: bytes, key: str, *, replace: bool = False) -> None:
    """Writes a file that appears whole, and not at all where one has appeared meanwhile.

    Args:
        target: the file.
        data: what it is to hold.
        key: which argument named it.
        replace: a file that is there gives way.
    """
    made = target.with_name(f".{target.name}-{new_name()}.tmp")
    try:
        with made.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            made.replace(target)
        else:
            os.link(made, target)
    except FileExistsError:
        refuse(key, "has appeared meanwhile and is not overwritten", str(target))
    except OSError as error:
        refuse(key, f"cannot be written: {error.strerror}", str(target))
    finally:
        made.unlink(missing_ok=True)
