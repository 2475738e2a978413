"""Sidecars: what the text files beside exported tiles say that people wrote into them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from tasks.arrow import first_of_each
from tasks.captions.edits import Edit, Said
from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.export.names import sidecar_name, tile_name
from tasks.export.record import Entry, listed, read_record, read_sidecar, text_digest
from tasks.export.tiles import save_folder, saving_concepts, tile_rows, tile_texts
from tasks.imaging.samples import kept_samples
from tasks.stage import Tables
from tasks.wording.resolve import resolve_prompts
from tasks.wording.sources import split_prompts

_GEOMETRY = ("path", "view_id", "kind", "scale", "left", "top", "width", "height")


@dataclass(frozen=True)
class _Tiles:
    """The kept tiles of a concept, and the texts that their sidecars would hold without edits."""

    concept: Concept
    rows: pa.Table
    upstream: Tables
    config: Config
    captions: pa.Table
    """The generated ones."""

    @cached_property
    def texts(self) -> dict[bytes, str]:
        """Made only when a sidecar is there that the record does not know."""
        manifests = {"prompts": self.upstream["prompts"], "captions": self.captions}
        return tile_texts(
            resolve_prompts(self.rows, manifests, self.config), self.concept.multiline
        )


def read_sidecars(
    config: Config, upstream: Tables, known: Mapping[bytes, Edit], captions: pa.Table
) -> dict[bytes, Said]:
    """What the sidecars of kept tiles say, by view_id; untouched ones say nothing.

    Where two concepts write the same tile, an edit counts more than a withdrawal, and the first
    concept's more than the second's.

    Args:
        config: which concepts write tiles, and where.
        upstream: manifests of prompts and crops.
        known: the newest item of every view that has one.
        captions: what models said of tiles and photos, with OWN_TEXTS.
    """
    found: dict[bytes, Said] = {}
    samples = kept_samples(upstream["crops"])
    for concept in saving_concepts(config):
        rows = tile_rows(samples, concept.name)
        tiles = _Tiles(concept, rows, upstream, config, captions)
        for view, said in _of_concept(tiles, known):
            if view not in found or (said.verdict, found[view].verdict) == ("edited", "withdrawn"):
                found[view] = said
    return found


def _of_concept(tiles: _Tiles, known: Mapping[bytes, Edit]) -> Iterator[tuple[bytes, Said]]:
    folder = save_folder(tiles.concept)
    there = listed(folder)
    if not there:
        return
    record = read_record(folder)
    columns = first_of_each(tiles.rows, "view_id").select(_GEOMETRY).to_pydict().values()
    for path, view, kind, scale, *rect in zip(*columns, strict=True):
        name = tile_name(path, view, kind, scale, (rect[0], rect[1], rect[2], rect[3]))
        if sidecar_name(name) in there:
            entry = record.get(name, Entry(view.hex()))
            said = _said(folder, name, view, entry, tiles, known.get(view))
            if said is not None:
                yield view, said


def _said(
    folder: Path, name: str, view: bytes, entry: Entry, tiles: _Tiles, last: Edit | None
) -> Said | None:
    """What one sidecar says, or None where nobody changed it since the last run.

    An edit is any text that is neither ours nor what would be written without an edit. One that the
    last run saw and that has since been set back to such a text is withdrawn. One that the last run
    saw and that is an older one in the store says nothing: the text was changed elsewhere since,
    and the sidecar will follow.
    """
    path = str(folder / sidecar_name(name))
    try:
        text = read_sidecar(folder, name)
    except ValueError as error:
        return Said("unreadable", path, reason=str(error))
    if text is None:
        return None
    found, prompts = text_digest(text), tuple(split_prompts(text, tiles.concept.multiline))
    is_newest = last is not None and last.prompts == (list(prompts) or [""])
    if found == entry.edit:
        in_store = last is not None and (prompts or ("",)) in last.texts
        untouched = in_store and (found in entry.written or not is_newest)
    elif found in entry.written:
        # What is ours may be the newest edit: then a kill came between writing and noting it.
        return Said("withdrawn", path) if entry.edit and not is_newest else None
    elif found == text_digest(tiles.texts[view]):
        return Said("withdrawn", path) if entry.edit else None
    else:
        untouched = False
    return None if untouched else Said("edited", path, prompts)
