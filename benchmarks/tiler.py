"""Tiling photos: decode, resize, cut and blank test, against decoding and resizing alone.

    TILEWRIGHT_BENCH_PHOTOS=FOLDER python -m benchmarks.tiler [--photos FOLDER] [--rounds 5]

The tiler does what the crops stage does with a file: read, verify its hash, decode, cut the full
view and the tiles of scale 2 at training resolution 1024, measure each. The bare loop reads,
decodes with simplejpeg and resizes with torch to the same sizes, the part of the full view cut out
first as torch needs it; it resizes without the full view too, for the record. One thread each, in
turns, the best by CPU seconds, which other processes disturb least.

Then the tiler on two threads against one, by wall seconds: only a machine with two idle cores can
tell. Exit code 1: a bound was missed.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch

from benchmarks.measure import best, in_turns, load, show, verdict
from benchmarks.photos import CACHE, VARIABLE
from storage.digest import digest_bytes
from tasks.config.concepts import DetailCrops
from tasks.config.models import DataConfig
from tasks.files.reading import thread_map
from tasks.files.sources import decoded
from tasks.imaging.blank import measure, resized_luma
from tasks.imaging.buckets import parse_resolutions
from tasks.imaging.decode import decode
from tasks.imaging.layout import Layout, place_views
from tasks.imaging.views import View, cut_views
from tests.photos import photo_pixels

RATIO, SCALING = 0.8, 1.7
SYNTHETIC = ((6000, 4000), (5312, 2988), (4272, 2848), (2560, 3840))
LAYOUT = Layout(
    resolutions=parse_resolutions("1024"),
    size_multiple=64,
    bucketing=True,
    seed=0,
    jitter=True,
    variations=1,
    grid_phases=1,
    crops=DetailCrops(enabled=True, scales=(2.0,)),
)


@dataclass(frozen=True, slots=True)
class Photo:
    """One file and the views that are cut of it."""

    path: Path
    source_id: bytes
    pixels: int
    views: list[View]


def main() -> int:
    """Measure, print every run, and tell whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", help=f"folder of JPEGs (or {VARIABLE})")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    photos = [known(path) for path in large_photos(given.photos)]
    tiles = sum(view.kind == "detail" for photo in photos for view in photo.views)
    print(f"{len(photos)} photos, {megapixels(photos):.0f} MP, {tiles} tiles; {load()}")
    quick = against_bare(photos, given.rounds)
    scales = on_threads(photos, given.rounds)
    return 0 if quick and scales else 1


def large_photos(given: str | None) -> list[Path]:
    """Large JPEGs: of a folder, else synthetic ones."""
    source = given or os.environ.get(VARIABLE)
    if source:
        found = sorted(Path(source).glob("*.jp*g"))
        return found or sys.exit(f"there are no .jpg files in {source}")
    print(f"SYNTHETIC photos; real ones: --photos or {VARIABLE}", file=sys.stderr)
    folder = CACHE / "large"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (width, height) in enumerate(SYNTHETIC):
        path = folder / f"{seed}.jpg"
        if not path.exists():
            pixels = cv2.resize(photo_pixels(width // 2, height // 2, seed), (width, height))
            cv2.imwrite(str(path), pixels)
    return sorted(folder.glob("*.jpg"))


def known(path: Path) -> Photo:
    """What scanning and layout find out of a photo."""
    data = path.read_bytes()
    height, width = decode(data).shape[:2]
    source_id = digest_bytes(data)
    views = [placed.view for placed in place_views(LAYOUT, source_id, width, height)]
    return Photo(path, source_id, width * height, views)


def against_bare(photos: list[Photo], rounds: int) -> bool:
    """The tiler against the bare loop on one thread; tells whether the bound holds."""
    loops: dict[str, Callable[[], object]] = {
        "bare decode and resize": lambda: [bare(photo, full=True) for photo in photos],
        "the same without full views": lambda: [bare(photo, full=False) for photo in photos],
        "tiler": lambda: [tile(photo) for photo in photos],
    }
    for loop in loops.values():
        loop()
    seen = in_turns(loops, rounds)
    cpu = {name: min(run.cpu for run in runs) for name, runs in seen.items()}
    for name, runs in seen.items():
        show(name, best(runs), len(photos))
        print(f"{'':<28}{megapixels(photos) / cpu[name]:9.1f} MP/s per core")
    ratio = cpu["bare decode and resize"] / cpu["tiler"]
    print(f"tiler: {ratio:.3f} of the bare loop by CPU seconds; {load()}")
    return verdict(f"tiler, bound {RATIO}", good=ratio >= RATIO)


def on_threads(photos: list[Photo], rounds: int) -> bool:
    """Two threads against one; tells whether the bound holds."""
    twice = sorted(photos, key=lambda photo: -photo.pixels) * 2
    seen = in_turns(
        {
            "tiler, 1 thread": lambda: list(thread_map(tile, twice, 1)),
            "tiler, 2 threads": lambda: list(thread_map(tile, twice, 2)),
        },
        rounds,
        told=lambda name, run: show(name, run, len(twice)),
    )
    scaling = best(seen["tiler, 1 thread"]).wall / best(seen["tiler, 2 threads"]).wall
    print(f"tiler: 2 threads {scaling:.2f} x as fast as one; {load()}")
    return verdict(f"scaling, bound {SCALING} x", good=scaling >= SCALING)


def tile(photo: Photo) -> None:
    """What the crops stage does with a file."""
    with decoded(str(photo.path), photo.source_id, DataConfig()) as image:
        for _, luma in cut_views(image, photo.views, resized_luma):
            measure(luma)


def bare(photo: Photo, *, full: bool) -> None:
    """Decode and resize to the same sizes, and nothing else."""
    pixels = simplejpeg.decode_jpeg(photo.path.read_bytes(), "RGB")
    resized = {view.resized for view in photo.views if view.kind != "full"}
    for view in photo.views if full else ():
        if view.kind == "full":
            left, top, width, height = view.rect
            part = np.ascontiguousarray(pixels[top : top + height, left : left + width])
            torch_resize(part, *view.target)
    for width, height in resized:
        torch_resize(pixels, width, height)


def torch_resize(pixels: np.ndarray, width: int, height: int) -> torch.Tensor:
    """The resize of the product as torch offers it."""
    tensor = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(
        tensor, size=(height, width), mode="bicubic", antialias=True
    )


def megapixels(photos: list[Photo]) -> float:
    """All photos together."""
    return sum(photo.pixels for photo in photos) / 1e6


if __name__ == "__main__":
    sys.exit(main())
