import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from storage.digest import digest_bytes
from storage.store import Store
from tasks.config.models import DataConfig
from tasks.imaging.decode import decode
from tasks.imaging.thumbnail import EDGE, shrink, shrink_jpeg
from tasks.pipeline.thumbnails import thumbnails_of
from tasks.thumbnails.stored import add_thumbnail, read_thumbnails, thumbnail_writer
from tests.photos import make_photo

PHOTOS = Path(__file__).parents[3] / "deployments" / "demo" / "photos"


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG" and image.mode == "RGB"
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def ids(*keys: bytes) -> pa.Array:
    return pa.array(keys, pa.binary(16))


@pytest.mark.parametrize("path", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.stem)
def test_photographs_keep_their_look(path: Path) -> None:
    original = Image.open(path).convert("RGB")
    for small in (shrink_jpeg(path.read_bytes()), shrink(decode(path.read_bytes()))):
        image = opened(small)
        assert max(image.size) == EDGE
        wanted = original.resize(image.size, Image.Resampling.BICUBIC)
        difference = np.asarray(image, np.float32) - np.asarray(wanted, np.float32)
        assert np.abs(difference).mean() < 5


def test_very_large_pixels_are_averaged_not_picked() -> None:
    # A fine chequerboard is grey from afar.
    pixels = np.indices((3000, 4000)).sum(axis=0) % 2 * 255
    pixels = np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)
    before = pixels.copy()
    image = opened(shrink(pixels[:, :3999]))
    assert image.size == (256, 192)
    assert abs(float(np.asarray(image).mean()) - 127.5) < 8
    assert (pixels == before).all()


def test_orientation_is_applied() -> None:
    pixels = np.zeros((400, 800, 3), np.uint8)
    pixels[:, :400] = 255
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise: left becomes top
    image = opened(shrink_jpeg(saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)))
    assert image.size == (128, 256)
    turned = np.asarray(image)
    assert turned[:110].mean() > 250 and turned[-110:].mean() < 5


def test_small_images_are_not_enlarged() -> None:
    assert opened(shrink(np.zeros((4, 8, 3), np.uint8))).size == (8, 4)


@pytest.mark.parametrize("data", [b"", b"hello world", b"\xff\xd8\xff\xe0 no jpeg"])
def test_only_a_sound_jpeg_is_shrunk_without_decoding_it(data: bytes) -> None:
    assert shrink_jpeg(data) is None
    assert shrink_jpeg(saved(Image.new("RGB", (9, 9)), "PNG")) is None
    photo = make_photo(600, 400, 1)
    assert shrink_jpeg(photo, max_pixels=1000) is None
    assert shrink_jpeg(photo) is not None


def test_thumbnails_come_back_and_are_made_once(store: Store) -> None:
    pixels = np.full((10, 10, 3), 200, np.uint8)
    first, second, other = b"a" * 16, b"b" * 16, b"c" * 16
    with thumbnail_writer(store, 60) as writer:
        add_thumbnail(writer, store, first, pixels)
        add_thumbnail(writer, store, second, pixels)
        add_thumbnail(writer, store, other, np.zeros((0, 0, 3), np.uint8))  # no harm
    found = read_thumbnails(store, ids(first, other))
    assert list(found) == [first]
    assert np.asarray(opened(found[first])).mean() == 200
    again = pickle_copy(store)
    with thumbnail_writer(again, 60) as writer:
        add_thumbnail(writer, again, first, pixels)
        assert writer.commit() == 0


def pickle_copy(store: Store) -> Store:
    """The store as another process opens it."""
    build, arguments = store.__reduce__()
    copy: Store = build(*arguments)
    return copy


def test_a_report_makes_what_is_missing_and_keeps_it(local_store: Store, tmp_path: Path) -> None:
    files = {
        "photo.jpg": make_photo(300, 200, 1),
        "drawing.png": saved(Image.new("RGB", (300, 200), "red"), "PNG"),
        "broken.png": b"\x89PNG broken",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    keys = {name: digest_bytes(data) for name, data in files.items()}
    keys["changed.jpg"] = b"x" * 16
    (tmp_path / "changed.jpg").write_bytes(files["photo.jpg"])
    sources = pa.table(
        {
            "path": [str(tmp_path / name) for name in (*keys, "gone.jpg")],
            "source_id": ids(*keys.values(), b"y" * 16),
        }
    )
    found = thumbnails_of(local_store, sources, DataConfig())
    assert set(found) == {keys["photo.jpg"], keys["drawing.png"]}
    for path in tmp_path.glob("*.*g"):
        path.unlink()
    assert thumbnails_of(local_store, sources, DataConfig()) == found
