"""The photos of the benchmarks: 2 to 6 megapixel JPEGs, cut once from larger ones and kept."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from tests.photos import photo_pixels

CACHE = Path(__file__).parents[1] / ".tilewright" / "bench"
VARIABLE = "TILEWRIGHT_BENCH_PHOTOS"
ASPECTS = ((3, 2), (4, 3), (1, 1), (3, 4), (2, 3), (16, 9))
MEGAPIXELS = (2.0, 6.0)
QUALITY = 92
SYNTHETIC = 12


def photo_set(count: int, given: str | None) -> list[Path]:
    """Paths of `count` JPEGs, made on first use; prints what they are.

    Args:
        count: how many.
        given: a folder of JPEGs of at least 2 megapixels; else the environment variable
            TILEWRIGHT_BENCH_PHOTOS; else synthetic photos stand in.
    """
    source = given or os.environ.get(VARIABLE)
    if source:
        originals, name = sorted(Path(source).glob("*.jp*g")), Path(source).resolve().name
        print(f"photos: {count} crops of {len(originals)} real photos in {source}")
    else:
        originals, name = _synthetic(), "synthetic"
        print(f"photos: {count} crops of SYNTHETIC photos; real ones: --photos or {VARIABLE}")
    if not originals:
        raise SystemExit(f"there are no .jpg files in {source}")
    folder = CACHE / f"crops-{name}-{count}"
    if not folder.is_dir():
        _make(originals, count, folder)
    paths = sorted(folder.glob("*.jpg"))
    print(f"        {sum(path.stat().st_size for path in paths) / 1e6:.0f} MB in {folder}")
    return paths


def _make(originals: list[Path], count: int, folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    for number, path in enumerate(originals):
        pixels = np.asarray(cv2.imread(str(path)))
        for place in range(number, count, len(originals)):
            crop = _crop(pixels, np.random.default_rng(place))
            quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            cv2.imwrite(str(draft / f"{place:04}.jpg"), crop, quality)
    try:
        draft.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(draft)


def _crop(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A part of the photo with a drawn area and aspect; the photo is enlarged if too small."""
    wide, high = ASPECTS[random.integers(len(ASPECTS))]
    area = random.uniform(*MEGAPIXELS) * 1e6
    width, height = round((area * wide / high) ** 0.5), round((area * high / wide) ** 0.5)
    factor = max(width / pixels.shape[1], height / pixels.shape[0])
    if factor > 1 and area / factor**2 >= MEGAPIXELS[0] * 1e6:
        width, height = int(width / factor), int(height / factor)
    elif factor > 1:
        pixels = cv2.resize(pixels, None, fx=factor + 0.001, fy=factor + 0.001)
    left = random.integers(pixels.shape[1] - width + 1)
    top = random.integers(pixels.shape[0] - height + 1)
    return pixels[top : top + height, left : left + width]


def _synthetic() -> list[Path]:
    folder = CACHE / "synthetic"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:02}.jpg" for seed in range(SYNTHETIC)]
    for seed, path in enumerate(paths):
        if not path.exists():
            pixels = cv2.resize(photo_pixels(1600, 1200, seed), (3200, 2400))
            cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths
