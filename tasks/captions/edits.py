"""Edits: the texts that people gave tiles and photos, as items of the store.

Whatever happens to such a text is an item (edited, edited again, withdrawn), and the newest item of
a view is what counts, wherever the exported files have gone. So an edit is lost only when it is
taken back: its sidecar, or its line in a table, set to what it would be without.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from storage.digest import digest, digest_json, hexkey
from tasks.captions.chosen import Target
from tasks.stage import Context
from tasks.wording.resolve import EDITED

VERSION = 1
FACTS = {"stage": "captions", "version": VERSION}
STAGE_ID = hexkey(digest_json("stage", FACTS))
WITHDRAWN = "withdrawn"
"""Origin of an item that takes an edit back."""
Verdict = Literal["edited", "withdrawn", "unreadable"]


@dataclass(frozen=True, slots=True)
class Edit:
    """What became of the text of a view: edited, or withdrawn."""

    key: bytes
    prompts: list[str] | None
    origin: str
    texts: frozenset[tuple[str, ...]] = frozenset()
    """The prompts of every edit that the view ever had, of what the store knows."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a person did to the sidecar of a tile."""

    verdict: Verdict
    path: str
    """Of the sidecar."""
    prompts: tuple[str, ...] = ()
    """What an edited one says; none is the empty prompt."""
    reason: str = ""
    """Why it could not be read."""


def newest_edits(context: Context) -> dict[bytes, Edit]:
    """The newest item of every view; the index gives the newest first."""
    columns = ["view_id", "key", "prompts", "origin"]
    items = context.committed("captions", STAGE_ID, columns)
    newest: dict[bytes, Edit] = {}
    texts: dict[bytes, set[tuple[str, ...]]] = {}
    for view, key, prompts, origin in zip(*items.to_pydict().values(), strict=True):
        if origin in (EDITED, WITHDRAWN):
            newest.setdefault(view, Edit(key, prompts, origin))
            texts.setdefault(view, set()).add(tuple(prompts or ()))
    return {view: replace(edit, texts=frozenset(texts[view])) for view, edit in newest.items()}


def edit_rows(
    targets: Iterable[Target], said_of: Mapping[bytes, Said], known: Mapping[bytes, Edit]
) -> Iterator[dict[str, Any]]:
    """The wanted items of edits, in the order of their views.

    Args:
        targets: everything that may have a text.
        said_of: what sidecars say, by view.
        known: the newest item of every view that has one.
    """
    concerned: dict[bytes, Target] = {}
    for target in targets:
        if target.view_id in said_of or target.view_id in known:
            before = concerned.get(target.view_id)
            if before is None or (target.certain and not before.certain):
                concerned[target.view_id] = target
    for view, target in sorted(concerned.items()):
        name = hexkey(view)
        shared: dict[str, Any] = {"logical": name, "group": name, "view_id": view}
        shared |= {"kind": target.view.kind, "certain": target.certain}
        shared |= {"source_id": target.source_id}
        said, last = said_of.get(view), known.get(view)
        if said is not None and said.verdict == "unreadable":
            key = digest("unreadable sidecar", view)
            bad = {"key": key, "group": said.path, "origin": EDITED, "reason": said.reason}
            yield shared | bad | {"logical": f"{name}|unreadable"}
            said = None
        item = _edit(view, said, last)
        if item is not None:
            yield shared | {"key": item.key, "prompts": item.prompts, "origin": item.origin}


def edited(view: bytes, prompts: list[str], last: Edit | None) -> Edit | None:
    """The item of a text that a person gave a view; None where it is the edit that it has.

    The same text may come, go and come back: the key names also the item before.
    """
    if last is not None and last.origin == EDITED and last.prompts == prompts:
        return None
    return Edit(digest("edit", view, _before(last), *prompts), prompts, EDITED)


def withdrawn(view: bytes, last: Edit | None) -> Edit | None:
    """The item that takes the edit of a view back; None where it has none."""
    if last is None or last.origin != EDITED:
        return None
    return Edit(digest("withdrawn", view, _before(last)), None, WITHDRAWN)


def _before(last: Edit | None) -> bytes:
    return b"" if last is None else last.key


def _edit(view: bytes, said: Said | None, last: Edit | None) -> Edit | None:
    """The item that a sidecar asks for, else the edit that the store has."""
    current = last if last is not None and last.origin == EDITED else None
    if said is None:
        return current
    if said.verdict == WITHDRAWN:
        return withdrawn(view, last)
    return edited(view, list(said.prompts) or [""], last) or current
