"""Export: the tiles that the concepts of a configuration write to disk, planned and done."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from storage.versions import Version, read_rows
from tasks import progress
from tasks.config.models import Config
from tasks.export.tiles import COLUMNS, Folder, plan_folder, saving_concepts, shared_views
from tasks.export.write import write_folder
from tasks.stage import Context


@dataclass(frozen=True)
class Exported:
    """What an export did, or would do."""

    tiles: int
    """Tiles that are in the folders now."""
    written: int
    """Pictures that were written."""
    sidecars: int
    """Text files that were written."""
    edited: int
    """Tiles that train on the text of a person."""
    folders: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    """Sources whose tiles could not be cut: they vanished or changed meanwhile."""

    def as_json(self) -> dict[str, Any]:
        """The counts as the `--json` summaries print them."""
        facts = {"tiles": self.tiles, "written": self.written, "sidecars": self.sidecars}
        lists = {"folders": list(self.folders), "skipped": list(self.skipped)}
        return facts | {"edited": self.edited} | lists


def plan_export(config: Config, rows: pa.Table) -> Exported | None:
    """What an export of these rows would do; None when no concept writes tiles."""
    folders = _folders(config, rows)
    if not folders:
        return None
    return Exported(
        tiles=sum(folder.num_tiles for folder in folders),
        written=sum(len(folder.pictures) for folder in folders),
        sidecars=sum(len(folder.texts) for folder in folders),
        edited=sum(folder.num_edited for folder in folders),
        folders=tuple(str(folder.place) for folder in folders),
    )


def export_tiles(config: Config, version: Version) -> Exported | None:
    """Writes the tiles of a dataset version that their folders lack; None: nobody asked for it.

    Raises:
        ValueError: a concept that writes tiles names no folder.
    """
    if not saving_concepts(config):
        return None
    folders = _folders(config, read_rows(Context(config).store, version, COLUMNS))
    total, done = sum(len(folder.pictures) for folder in folders), 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress.report("export", done, total, "tiles")

    written = [write_folder(folder, config.data, report) for folder in folders]
    skipped = {path for one in written for path in one.skipped}
    lost = sum(tile.path in skipped for folder in folders for tile in folder.pictures)
    return Exported(
        tiles=sum(folder.num_tiles for folder in folders) - lost,
        written=sum(one.pictures for one in written),
        sidecars=sum(one.texts for one in written),
        edited=sum(folder.num_edited for folder in folders),
        folders=tuple(str(folder.place) for folder in folders),
        skipped=tuple(sorted(skipped)),
    )


def _folders(config: Config, rows: pa.Table) -> list[Folder]:
    concepts = saving_concepts(config)
    shared = shared_views(concepts, rows) if len(concepts) > 1 else frozenset()
    return [plan_folder(concept, rows, shared) for concept in concepts]
