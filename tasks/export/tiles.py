"""Tiles: which tiles of a dataset are exported, and what their files should be."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.config.concepts import Concept, Multiline
from tasks.config.models import Config
from tasks.export.names import sidecar_name, tile_name
from tasks.export.record import (
    Entry,
    Record,
    listed,
    read_record,
    read_sidecar,
    sidecar_text,
    text_digest,
)
from tasks.imaging.jobs import row_view
from tasks.imaging.views import View
from tasks.wording.resolve import EDITED
from tasks.wording.sources import split_prompts

COLUMNS = (
    *("concept", "path", "source_id", "view_id", "kind", "scale", "left", "top", "width", "height"),
    *("resized_width", "resized_height", "bucket_width", "bucket_height", "variation"),
    *("prompts", "prompt_origin"),
)
"""What is read of a dataset's rows, planned or made."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile and the text that its sidecar should hold."""

    name: str
    """Of its picture."""
    path: str
    source_id: bytes
    view_id: bytes
    view: View
    text: str
    edited: bool
    """Whether the text is one that a person wrote."""


@dataclass(frozen=True)
class Folder:
    """What a concept's folder lacks."""

    concept: Concept
    place: Path
    num_tiles: int
    """Tiles that are there when the export is done."""
    num_edited: int
    """Of these, tiles whose text a person wrote."""
    pictures: tuple[Tile, ...]
    """Tiles without a picture."""
    texts: tuple[Tile, ...]
    """Tiles without a sidecar, or with one that is ours, or an edit that the store took over, and
    that should say something else by now."""
    record: Record
    """The record as it is now."""
    noted: Record
    """The record as it will be."""


def saving_concepts(config: Config) -> list[Concept]:
    """The concepts whose tiles are written to disk."""
    return [
        concept
        for concept in config.concepts
        if concept.enabled
        and concept.image.detail_crops.enabled
        and concept.image.detail_crops.save_to_disk
    ]


def save_folder(concept: Concept) -> Path:
    """Where the tiles of a concept are written.

    Raises:
        ValueError: the settings name no folder.
    """
    folder = concept.image.detail_crops.save_directory
    if not folder:
        raise ValueError(
            f"concept {concept.name!r}: save_to_disk = true needs save_directory, a local folder"
        )
    return Path(folder)


def plan_folder(concept: Concept, rows: pa.Table, shared: Collection[bytes] = ()) -> Folder:
    """Holds the tiles of a concept against its folder; writes nothing.

    A picture that is there is right, for its name says which pixels it holds. Beyond the most tiles
    per image that are asked for, only tiles whose pictures are there already are looked after.

    Args:
        concept: one of `saving_concepts`.
        rows: rows of a dataset, planned or made, with COLUMNS.
        shared: the `shared_views`.
    """
    place = save_folder(concept)
    there, record = listed(place), read_record(place)
    tiles = list(_tiles_of(concept, rows))
    chosen = set(_chosen(tiles, concept.image.detail_crops.save_max_tiles_per_image))
    tiles = [tile for tile in tiles if tile.name in chosen or tile.name in there]
    texts, noted = [], dict(record)
    for tile in tiles:
        entry = record.get(tile.name, Entry(tile.view_id.hex()))
        found = place if sidecar_name(tile.name) in there else None
        is_due, entry = _look(tile, found, entry, concept.multiline, tile.view_id in shared)
        if is_due:
            texts.append(tile)
        if entry.written or entry.edit:
            noted[tile.name] = entry
    return Folder(
        concept=concept,
        place=place,
        num_tiles=len(tiles),
        num_edited=sum(tile.edited for tile in tiles),
        pictures=tuple(tile for tile in tiles if tile.name not in there),
        texts=tuple(texts),
        record=record,
        noted=noted,
    )


def tile_rows(rows: pa.Table, concept: str) -> pa.Table:
    """The tiles among the rows of a concept, in an order that depends on nothing else."""
    tiles = pc.and_(pc.equal(rows["concept"], concept), pc.not_equal(rows["kind"], "full"))
    by = ("path", "kind", "scale", "resized_width", "resized_height", "top", "left")
    return rows.filter(tiles).sort_by([(name, "ascending") for name in (*by, "variation")])


def shared_views(concepts: Sequence[Concept], rows: pa.Table) -> frozenset[bytes]:
    """The tiles that several of these concepts export."""
    seen: set[bytes] = set()
    shared: set[bytes] = set()
    for concept in concepts:
        views = set(tile_rows(rows, concept.name)["view_id"].to_pylist())
        shared |= seen & views
        seen |= views
    return frozenset(shared)


def tile_texts(rows: pa.Table, multiline: Multiline) -> dict[bytes, str]:
    """The sidecar text of every view: each prompt of its variations once."""
    prompts: dict[bytes, dict[str, None]] = {}
    for view, texts in zip(rows["view_id"].to_pylist(), rows["prompts"].to_pylist(), strict=True):
        prompts.setdefault(view, {}).update(dict.fromkeys(texts))
    return {view: sidecar_text(list(texts), multiline) for view, texts in prompts.items()}


def spread(count: int, most: int) -> Iterable[int]:
    """Numbers of at most `most` of `count` things in a row, evenly spread; 0 is all of them."""
    if not most or count <= most:
        return range(count)
    return ((2 * number + 1) * count // (2 * most) for number in range(most))


def _tiles_of(concept: Concept, rows: pa.Table) -> Iterator[Tile]:
    """Each tile once: variations and grid phases share it."""
    table = tile_rows(rows.select(COLUMNS), concept.name)
    texts = tile_texts(table, concept.multiline)
    for row in table.drop_columns(["prompts"]).to_pylist():
        text = texts.pop(row["view_id"], None)
        if text is None:
            continue
        view = row_view(row)
        name = tile_name(row["path"], row["view_id"], view.kind, view.scale, view.rect)
        edited = row["prompt_origin"] == EDITED
        yield Tile(name, row["path"], row["source_id"], row["view_id"], view, text, edited)


def _chosen(tiles: Sequence[Tile], most: int) -> Iterator[str]:
    """The names of the tiles to write, spread over each source."""
    for _, group in groupby(tiles, key=attrgetter("path")):
        of_source = list(group)
        yield from (of_source[number].name for number in spread(len(of_source), most))


def _look(
    tile: Tile, place: Path | None, entry: Entry, multiline: Multiline, is_shared: bool
) -> tuple[bool, Entry]:
    """Whether a sidecar must be written, and what is to be noted of it.

    An edit that an earlier run took over is in the store. It is written anew when it is no longer
    what the tile trains on: somebody changed it elsewhere. But not where that may be the folder of
    another concept, whose sidecar counts more: this one stays as its author wrote it.
    """
    wanted = text_digest(tile.text)
    ours = Entry(entry.view, (wanted,), wanted if tile.edited else None)
    try:
        text = None if place is None else read_sidecar(place, tile.name)
    except ValueError:
        return False, entry  # not ours to repair
    if text is None:
        return True, ours
    found = text_digest(text)
    if tile.edited and wanted in (found, _as_written(text, multiline)):
        return False, replace(entry, edit=found)
    if found == wanted:
        return False, ours
    is_ours = found in entry.written or (found == entry.edit and not is_shared)
    return (True, ours) if is_ours else (False, entry)


def _as_written(text: str, multiline: Multiline) -> str:
    """The digest of the prompts in a sidecar as we would write them."""
    return text_digest(sidecar_text(split_prompts(text, multiline) or [""], multiline))
