import ast
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.imaging.blank import is_blank, measure
from tasks.imaging.grid import resized_size, tile_grid
from tasks.imaging.resize import resize
from tasks.imaging.views import View, cut_views, sample_id, view_id, view_pixels
from tests.photos import photo_pixels

SOURCE = bytes(range(16))
TILE = View("detail", 2.0, (1536, 1024), (512, 0, 512, 512), (512, 512))
IMAGE = photo_pixels(300, 200, 1)


def tiles(kind: str, size: tuple[int, int], tile: int) -> list[View]:
    grid = tile_grid(*size, tile, tile // 8)
    return [View(kind, 1.0, size, (*place, tile, tile), (tile, tile)) for place in grid]  # type: ignore[arg-type]


# --- keys ------------------------------------------------------------------------------------


def test_keys_never_drift() -> None:
    """Golden values: a change orphans every cache; see IMAGING_VERSION."""
    assert view_id(SOURCE, TILE).hex() == "d91f17fa53f4769053969c51241da571"
    assert sample_id(view_id(SOURCE, TILE)).hex() == "e8b48f2e8deb87a56ad247b8a3ee7847"


def test_every_part_of_the_geometry_counts() -> None:
    views = [
        TILE,
        replace(TILE, kind="context"),
        replace(TILE, resized=(1536, 1025)),
        replace(TILE, rect=(513, 0, 512, 512)),
        replace(TILE, target=(520, 512)),
    ]
    keys = {view_id(SOURCE, view) for view in views} | {view_id(bytes(16), TILE)}
    assert len(keys) == 6
    assert all(len(key) == 16 for key in keys)
    assert view_id(SOURCE, replace(TILE, scale=3.0)) == view_id(SOURCE, TILE)


def test_augmentation_counts_only_when_there_is_one() -> None:
    assert sample_id(SOURCE) == sample_id(SOURCE, {})
    assert sample_id(SOURCE) != SOURCE
    assert sample_id(SOURCE, {"flip": True}) != sample_id(SOURCE)


# --- pixels ----------------------------------------------------------------------------------


def test_a_view_does_not_depend_on_its_company() -> None:
    size = resized_size(300, 200, 400)
    full = View("full", 1.0, (192, 128), (10, 0, 280, 200), (192, 128))
    views = [*tiles("detail", size, 128), full, *tiles("context", (192, 128), 128)]
    cut = list(cut_views(IMAGE, views))
    assert {view for view, _ in cut} == set(views) and len(cut) == len(views)
    for view, pixels in cut:
        assert pixels.shape == (view.target[1], view.target[0], 3)
        assert np.array_equal(pixels, view_pixels(IMAGE, view))


def test_tiles_are_the_resized_source() -> None:
    size = resized_size(300, 200, 400)
    whole = resize(IMAGE, *size)
    seen = np.zeros(whole.shape[:2], dtype=bool)
    for view, pixels in cut_views(IMAGE, tiles("detail", size, 128)):
        left, top, width, height = view.rect
        assert np.array_equal(pixels, whole[top : top + height, left : left + width])
        assert pixels.base is None, "a copy: the resized source can go"
        seen[top : top + height, left : left + width] = True
    assert seen.all()


def test_a_source_of_the_wanted_size_is_not_touched() -> None:
    view = View("detail", 1.0, (300, 200), (20, 30, 128, 128), (128, 128))
    assert np.array_equal(view_pixels(IMAGE, view), IMAGE[30:158, 20:148])


def test_a_tile_is_never_scaled_and_never_outside() -> None:
    with pytest.raises(ValueError, match="never scaled"):
        view_pixels(IMAGE, replace(TILE, target=(256, 256)))
    with pytest.raises(ValueError, match="not inside"):
        view_pixels(IMAGE, replace(TILE, rect=(1100, 0, 512, 512)))
    with pytest.raises(ValueError, match="not inside"):
        view_pixels(IMAGE, View("full", 1.0, (64, 64), (0, 0, 301, 200), (64, 64)))


def test_one_resized_source_is_alive_at_a_time() -> None:
    image = photo_pixels(900, 600, 1)
    sizes = [(1500 + 3 * n, 1000) for n in range(6)]
    views = [view for size in sizes for view in tiles("detail", size, 500)]
    view_pixels(image, views[0])
    tracemalloc.start()
    for _ in cut_views(image, views):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.6 * 1500 * 1000 * 3


# --- resample --------------------------------------------------------------------------------


def test_the_resample_is_pillows_bicubic() -> None:
    for size in ((97, 64), (150, 100), (411, 333)):
        ours = resize(IMAGE, *size).astype(int)
        pillow = np.asarray(Image.fromarray(IMAGE).resize(size, Image.Resampling.BICUBIC))
        off = np.abs(ours - pillow)
        assert off.max() <= 2 and off.mean() < 0.02, "only rounding differs"


def test_fine_detail_is_averaged_not_aliased() -> None:
    board = np.zeros((512, 512, 3), dtype=np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    small = resize(board, 100, 100).astype(int)
    assert np.abs(small[5:-5, 5:-5] - 127).max() < 8


def test_a_box_is_cut_first() -> None:
    frame = np.full((200, 200, 3), 255, dtype=np.uint8)
    frame[50:150, 40:160] = 7
    assert (resize(frame, 30, 25, (40, 50, 120, 100)) == 7).all()
    whole = resize(IMAGE, 64, 48, (0, 0, 300, 200))
    assert np.array_equal(whole, resize(IMAGE, 64, 48))


def test_the_source_is_never_changed_or_shared() -> None:
    frozen = IMAGE.copy()
    frozen.flags.writeable = False
    same = resize(frozen, 300, 200)
    same[:] = 0
    assert np.array_equal(frozen, IMAGE)
    assert resize(frozen, 30, 20).shape == (20, 30, 3)
    for bad in ((0, 10, None), (10, 10, (0, 0, 0, 5)), (10, 10, (-1, 0, 5, 5))):
        with pytest.raises(ValueError, match="not inside|at least 1"):
            resize(IMAGE, *bad)


def test_importing_the_package_imports_no_torch() -> None:
    code = (
        "import sys, tasks.imaging.views, tasks.imaging.blank, tasks.imaging.buckets;"
        "sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_no_module_sets_global_threads() -> None:
    for path in (Path(__file__).parents[3] / "tasks/imaging").glob("*.py"):
        calls = [
            n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)
        ]
        assert not {"set_num_threads", "setNumThreads"} & set(calls), path


# --- blank -----------------------------------------------------------------------------------


def test_flat_sky_is_blank_and_texture_is_not() -> None:
    photo = photo_pixels(512, 512, 2)
    sky, ground = measure(photo[:128, :128]), measure(photo[300:428, 300:428])
    assert sky == (0.0, 0.0)
    assert ground[0] > 0.05 and ground[1] > 0.05
    assert is_blank(*sky, 0.004, 0.0) == "blank: luma std 0.0000 < blank_std_threshold 0.004"
    assert "edge share" in str(is_blank(*sky, 0.0, 0.015))
    assert is_blank(*ground, 0.004, 0.015) is None
    assert is_blank(*sky, 0.0, 0.0) is None, "0 switches a test off"


def test_measures_have_the_stated_scale() -> None:
    halves = np.zeros((64, 64, 3), dtype=np.uint8)
    halves[:, 32:] = 255
    deviation, edges = measure(halves)
    assert abs(deviation - 0.5) < 1e-6
    assert 0 < edges < 0.05


def test_measuring_is_quick() -> None:
    tile = photo_pixels(512, 512, 2)[150:]
    measure(tile)
    started = time.perf_counter()
    for _ in range(20):
        measure(tile)
    assert time.perf_counter() - started < 20 * 0.02
