"""A project whose tiles are written to disk, and what tests look at there."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.projects import Prepared, Project, make_project

CROPS = "concepts.0.image.detail_crops."


@dataclass(frozen=True)
class Exporting:
    """A project and the folder of its tiles."""

    project: Project
    tiles: Path

    def settings(self, *more: str) -> tuple[str, ...]:
        place = f"{CROPS}save_directory={str(self.tiles)!r}"
        return (f"{CROPS}save_to_disk=true", place, *more)

    def prepare(self, *more: str) -> Prepared:
        return self.project.prepare(*self.settings(*more))

    def plan(self, *more: str) -> dict[str, Any]:
        return self.project.plan(*self.settings(*more))

    def pictures(self, stem: str = "") -> list[Path]:
        return sorted(self.tiles.glob(f"{stem}*.png"))

    def sidecars(self, stem: str = "") -> list[Path]:
        return sorted(self.tiles.glob(f"{stem}*.txt"))


def make_exporting(folder: Path, model: Path) -> Exporting:
    """Two photos whose tiles are exported."""
    exporting = Exporting(make_project(folder, model, num_photos=2), folder / "tiles")
    exporting.prepare()
    return exporting


def copy_exporting(exporting: Exporting, folder: Path) -> Exporting:
    """The same project with its store and its tiles, in a folder of its own."""
    shutil.copytree(exporting.project.folder, folder)
    copied = Exporting(Project(folder), folder / "tiles")
    copied.prepare()
    return copied


def rows_of(prepared: Prepared, picture: Path) -> list[dict[str, Any]]:
    """The rows of the tile that a picture shows, by the start of its view's key in the name."""
    short = picture.stem.split("_")[-3]
    return [row for row in prepared.rows.to_pylist() if row["view_id"].hex().startswith(short)]
