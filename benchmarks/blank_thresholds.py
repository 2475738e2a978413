"""What the blank thresholds drop: a Markdown table over the photos of a folder.

    python -m benchmarks.blank_thresholds FOLDER

In per cent of the tiles of each photo, at scale 2, for training resolutions 1024 (tiles of 1024
pixels, overlap 128) and 512. Each threshold alone, the other test off. The table in
`docs/blank-tiles.md` is made from the 15 JPEGs of Debian's package lomiri-wallpapers-16.04:

    apt-get download lomiri-wallpapers-16.04 && dpkg-deb -x lomiri-wallpapers-16.04_*.deb photos
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.tiler import LAYOUT
from tasks.imaging.blank import is_blank, measure, resized_luma
from tasks.imaging.buckets import parse_resolutions
from tasks.imaging.decode import decode
from tasks.imaging.layout import Layout, tile_views
from tasks.imaging.views import cut_views

RESOLUTIONS = (1024, 512)
STD = (0.002, 0.004, 0.01, 0.02, 0.05)
EDGE = (0.001, 0.005, 0.015, 0.05)
LIMITS = [*((std, 0.0) for std in STD), *((0.0, edge) for edge in EDGE)]


def main() -> int:
    """Print a table per resolution."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    photos = sorted(parser.parse_args().folder.rglob("*.jp*g"))
    if not photos:
        return int(bool(sys.stderr.write("there are no .jpg files in that folder\n")))
    for resolution in RESOLUTIONS:
        layout = replace(LAYOUT, resolutions=parse_resolutions(str(resolution)))
        print_table(resolution, {photo.stem: measures(photo, layout) for photo in photos})
    return 0


def measures(photo: Path, layout: Layout) -> list[tuple[float, float]]:
    """(luma std, edge share) of every tile."""
    image = decode(photo.read_bytes())
    height, width = image.shape[:2]
    views = [placed.view for placed in tile_views(layout, width, height)]
    return [measure(luma) for _, luma in cut_views(image, views, resized_luma)]


def print_table(resolution: int, photos: dict[str, list[tuple[float, float]]]) -> None:
    """One row per photo, a column per threshold."""
    print(f"\nTraining resolution {resolution}, scale 2\n")
    names = [*(f"std {std:g}" for std in STD), *(f"edge {edge:g}" for edge in EDGE)]
    print(f"| photo | tiles | {' | '.join(names)} |")
    print(f"| --- | ---: |{' ---: |' * len(names)}")
    for name, tiles in photos.items():
        print(row(name.split("_by_")[0], tiles))
    everything = [tile for tiles in photos.values() for tile in tiles]
    print(row("**all**", everything))


def row(name: str, tiles: list[tuple[float, float]]) -> str:
    """Name, number of tiles, and the share that each threshold drops."""
    cells = []
    for std, edge in LIMITS:
        dropped = sum(is_blank(*tile, std, edge) is not None for tile in tiles)
        cells.append(f"{100 * dropped / len(tiles):.0f}" if dropped else "")
    return f"| {name} | {len(tiles)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
