"""Record: what Tilewright itself wrote into a folder of exported tiles, and what was seen there.

The record, `.tilewright-tiles.jsonl`, has a line per tile. It says which texts are ours: a sidecar
that holds one of them may be written anew, any other was edited and is never touched. A text is
noted before it is written, so whatever a kill leaves behind is known as ours.
"""

import json
import os
import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from storage.digest import digest, hexkey
from storage.naming import new_name
from tasks.config.concepts import Multiline
from tasks.export.names import sidecar_name
from tasks.wording.sources import decode_text

RECORD = ".tilewright-tiles.jsonl"
_TEMP = (".tilewright-", ".tmp")
_LEFT_OVER_SECONDS = 3600
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one tile's sidecar; texts are known by `text_digest`."""

    view: str
    """The key of the view, in hex."""
    written: tuple[str, ...] = ()
    """The texts that are ours: the one that was written last, and the one before while it is."""
    edit: str | None = None
    """The edited text that the sidecar held when the last run ended; None without an edit."""


Record = dict[str, Entry]
"""By the name of the tile's picture."""


@lru_cache(maxsize=4096)
def text_digest(text: str) -> str:
    """The digest of what a text says: line ends, blanks at the ends of lines and the like are none.

    So an editor that saves a file in its own way has not edited it.
    """
    lines = [line.strip() for line in _LINE_END.split(unicodedata.normalize("NFC", text))]
    paragraphs = ["\n".join(group) for filled, group in groupby(lines, key=bool) if filled]
    return hexkey(digest("sidecar/1", "\n\n".join(paragraphs)))


def sidecar_text(prompts: Sequence[str], multiline: Multiline) -> str:
    """Prompts as a sidecar holds them: one per line, or per paragraph where that is the rule."""
    between = "\n\n" if multiline == "paragraphs" else "\n"
    return between.join(_LINE_END.sub(" ", prompt) for prompt in prompts) + "\n"


def listed(folder: Path) -> set[str]:
    """The names of what a folder holds; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def read_sidecar(folder: Path, name: str) -> str | None:
    """The text beside a tile's picture; None where there is none.

    Raises:
        ValueError: it cannot be read as text.
    """
    try:
        return decode_text((folder / sidecar_name(name)).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error


def read_record(folder: Path) -> Record:
    """The record of a folder; lines that are damaged are left out."""
    record: Record = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        for line in (folder / RECORD).read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):
                known = json.loads(line)
                written, edit = tuple(map(str, known["written"])), known["edit"]
                entry = Entry(str(known["view"]), written, None if edit is None else str(edit))
                record[str(known["name"])] = entry
    return record


def write_record(folder: Path, record: Mapping[str, Entry]) -> None:
    """Replaces the record of a folder in one step, durably."""
    lines = (json.dumps(_line(name, entry), ensure_ascii=False) for name, entry in record.items())
    put_file(folder, RECORD, "".join(f"{line}\n" for line in lines).encode(), durable=True)


def ahead(record: Mapping[str, Entry], noted: Mapping[str, Entry]) -> Record:
    """What is noted before files are written: old and new texts are ours, edits are as before."""
    notes = dict(record)
    for name, entry in noted.items():
        before = record.get(name, Entry(entry.view))
        both = dict.fromkeys([*entry.written, *before.written])
        notes[name] = Entry(entry.view, tuple(both), before.edit)
    return notes


def put_file(folder: Path, name: str, data: bytes, *, durable: bool = False) -> None:
    """Writes a file whole: under its name there is the old one or the new one."""
    temp = folder / new_name().join(_TEMP)
    try:
        with temp.open("xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temp.replace(folder / name)
    finally:
        temp.unlink(missing_ok=True)


def remove_left_overs(folder: Path) -> None:
    """Removes the temporary files that killed runs left more than an hour ago."""
    for path in folder.glob("*".join(_TEMP)):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS:
                path.unlink()


def _line(name: str, entry: Entry) -> dict[str, Any]:
    return {"name": name, "view": entry.view, "written": entry.written, "edit": entry.edit}
