"""A folder of broken and odd files, and what is to be said of each."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from storage.versions import read_rows
from tasks.config.models import Config
from tasks.pipeline.report import read_rejects
from tasks.pipeline.run import StagePlan, make_version, plan_stage, seal_stage, work_partition
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageRef
from tests import odd_files
from tests.photos import make_photo
from tests.projects import Prepared, Project, make_old

RECURSIVE = "concepts.0.include_subdirectories=true"
NAME_MAX = 255
LOST = "vanished or changed while the run was reading it"
HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
JXL_START = bytes.fromhex("ff0a0f070013080100c57067")
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb.png": (odd_files.bomb_png, "3600000000 pixels are more than data.max_pixels = 400000000"),
    "empty.jpg": (odd_files.empty, "the file is empty (0 bytes)"),
    "float.tif": (lambda: odd_files.grey_float_tiff(-1, 300), "floating point samples from -1"),
    "header-only.jpg": (odd_files.header_only_jpeg, "damaged JPEG file"),
    "integers.tif": (lambda: odd_files.grey_int32_tiff(70_000), "integer samples from 0 to 70000"),
    "text.png": (odd_files.text_as_png, "not an image of a known format"),
    "truncated.avif": (lambda: odd_files.truncated("AVIF"), "damaged AVIF file"),
    "truncated.bmp": (lambda: odd_files.truncated("BMP"), "truncated"),
    "truncated-gif.png": (lambda: odd_files.truncated("GIF"), "truncated"),
    "truncated.jpg": (odd_files.truncated_jpeg, "truncated or damaged JPEG file"),
    "truncated.png": (odd_files.truncated_png, "truncated"),
    "truncated.tif": (lambda: odd_files.truncated("TIFF"), "damaged TIFF file"),
    "truncated.webp": (lambda: odd_files.truncated("WEBP"), "damaged WebP file"),
    "photo.heic": (lambda: HEIC_START, "HEIC"),
    "photo.jxl": (lambda: JXL_START, "JXL"),
    "private.jpg": (lambda: make_photo(96, 64, 31), "permission to read it is denied"),
}
NO_FILES = {
    "dangling.jpg": "a symbolic link that leads nowhere or to itself",
    "itself.jpg": "a symbolic link that leads nowhere or to itself",
    "locked": "permission to list this folder is denied",
    r"latin-1-caf\udce9.jpg": "its name is no valid UTF-8: rename it",
}
"""Entries that are no readable files, and why."""
CHANGING = {
    "changes-during-the-scan.jpg": LOST,
    "changes-after-the-scan.jpg": LOST,
    "vanishes-during-the-scan.jpg": "vanished while the run was reading it",
    "vanishes-after-the-scan.jpg": LOST,
}
"""Good files that do not stay what they are while the first run reads them."""


def as_photo(format: str, **options: object) -> Callable[[], bytes]:
    return lambda: odd_files.encoded(odd_files.photo(), format, **options)


LIKE_THE_PHOTO: dict[str, Callable[[], bytes]] = {
    "adobe-cmyk.jpg": odd_files.cmyk_jpeg,
    "cmyk.tif": odd_files.cmyk_tiff,
    "lab.tif": odd_files.lab_tiff,
    "late-exif.png": odd_files.late_exif_png,
    "lossless.webp": as_photo("WEBP", lossless=True),
    "pages.tif": odd_files.paged_tiff,
    "plain.avif": as_photo("AVIF", quality=100, subsampling="4:4:4"),
    "plain.bmp": as_photo("BMP"),
    "plain.png": as_photo("PNG"),
    "preview-first.tif": odd_files.preview_first_tiff,
    "progressive.jpg": as_photo("JPEG", quality=97, subsampling=0, progressive=True),
    "pyramid.tif": odd_files.pyramid_tiff,
    "rgb16.png": odd_files.rgb16_png,
    "rgb16.tif": odd_files.rgb16_tiff,
    "rotated.jpg": odd_files.exif_rotated_jpeg,
    "rotated.webp": lambda: odd_files.exif_rotated(8, "WEBP", lossless=True),
}
ANIMATED: dict[str, tuple[Callable[[], bytes], int]] = {
    "animated.avif": (odd_files.animated_avif, 3),
    "animated.png": (odd_files.animated_png, 24),
    "animated.webp": (odd_files.animated_webp, 2),
    "gif-called.png": (odd_files.animated_gif, 2),
    "pages.tif": (odd_files.paged_tiff, 3),
}
GOOD: dict[str, Callable[[], bytes]] = {
    **LIKE_THE_PHOTO,
    **{name: make for name, (make, _) in ANIMATED.items()},
    "CASE.jpg": lambda: make_photo(96, 64, 21),
    "Case.jpg": lambda: make_photo(96, 64, 22),
    "case.JPG": lambda: make_photo(96, 64, 23),
    "case.jpg": lambda: make_photo(96, 64, 24),
    unicodedata.normalize("NFC", "café.jpg"): lambda: make_photo(96, 64, 25),
    unicodedata.normalize("NFD", "café.jpg"): lambda: make_photo(96, 64, 26),
    "float-0-to-1.tif": odd_files.grey_float_tiff,
    "grey.jpg": odd_files.grey_jpeg,
    "grey-alpha.png": lambda: odd_files.transparent_png(0, "LA"),
    "grey16.png": odd_files.grey16_png,
    "grey16.tif": odd_files.grey16_tiff,
    "linked.jpg": lambda: make_photo(96, 64, 27),
    "one-bit.png": odd_files.one_bit_png,
    "palette.png": odd_files.palette_png,
    "same-stem.jpeg": lambda: make_photo(96, 64, 11),
    "same-stem.png": lambda: odd_files.encoded(odd_files.photo(seed=12), "PNG"),
    "stray-bytes.jpg": odd_files.stray_bytes_jpeg,
    "sub/inner.jpg": lambda: make_photo(96, 64, 13),
    "transparent.png": odd_files.transparent_png,
    "wrong-suffix.png": lambda: make_photo(96, 64, 14),
    "\u00fcml\u00e4ut \u2603 \u65e5\u672c 'quoted' #%\n.jpg": lambda: make_photo(96, 64, 15),
    "l" * (NAME_MAX - 4) + ".jpg": lambda: make_photo(96, 64, 16),
}


def fill(project: Project) -> None:
    """Writes all of it into the project's photos."""
    root = project.folder.parent
    photos = project.photos
    (photos / "sub").mkdir()
    for name, make in GOOD.items():
        write(project, name, make())
    for name, (make, _) in BAD.items():
        write(project, name, make())
    for seed, name in enumerate(CHANGING, start=40):
        write(project, name, make_photo(96, 64, seed))
    outside = (photos / "linked.jpg").rename(root / "outside.jpg")
    (photos / "linked.jpg").symlink_to(outside)
    (photos / "sub" / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "dangling.jpg").symlink_to(root / "nowhere.jpg")
    (photos / "itself.jpg").symlink_to(photos / "itself.jpg")
    (photos / "locked").mkdir()
    (photos / "locked" / "unseen.jpg").write_bytes(make_photo(96, 64, 17))
    odd_name = os.fsdecode(os.fsencode(photos) + b"/latin-1-caf\xe9.jpg")
    Path(odd_name).write_bytes(make_photo(96, 64, 18))
    for refused in ("private.jpg", "locked"):
        (photos / refused).chmod(0)


def write(project: Project, name: str, data: bytes) -> None:
    path = project.photos / name
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(f"a photo called {path.stem[:20].strip()}")
    make_old(path)
    make_old(path.with_suffix(".txt"))


def prepare_while_files_change(project: Project) -> Prepared:
    """A run, with what happens to the files of CHANGING in its course."""

    def happens(when: str) -> None:
        changes, vanishes = (
            project.photos / f"{what}-{when}.jpg" for what in ("changes", "vanishes")
        )
        write(project, changes.name, make_photo(112, 80, len(when)))
        vanishes.unlink()

    config = project.config(RECURSIVE)
    refs: dict[str, StageRef] = {}
    for stage in STAGES:
        planned = plan_stage(config, stage.name, {up: refs[up] for up in stage.after})
        if stage.name == "scan":
            happens("during-the-scan")
        assert isinstance(planned, StagePlan) or not planned.counts.computed
        if isinstance(planned, StagePlan):
            done = [work_partition(config, planned, n) for n in range(planned.num_partitions)]
            planned = seal_stage(config, planned, done)
        refs[stage.name] = planned
        if stage.name == "scan":
            happens("after-the-scan")
    return finished(config, refs)


def finished(config: Config, refs: dict[str, StageRef]) -> Prepared:
    version, created = make_version(config, refs)
    context = Context(config)
    return Prepared(
        version,
        created,
        {name: ref.counts for name, ref in refs.items()},
        read_rows(context.store, version),
        [(row["path"], row["reason"]) for row in read_rejects(context, refs).to_pylist()],
    )
