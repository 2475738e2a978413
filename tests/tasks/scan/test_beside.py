"""Which text and which mask stand beside an image."""

from pathlib import Path

import fsspec
import pytest

from tasks.config.concepts import Concept
from tasks.scan.stage import _concept_files

NAMES = ("cat.jpg", "cat.v2.webp", "a.b/cat.PNG", "a.b/lonely.png")
BESIDE = (
    *("cat.txt", "cat.caption", "cat-masklabel.png", "cat.v2.caption", "cat.v2-masklabel.png"),
    *("a.b/cat.txt", "a.b/cat-masklabel.png", "lonely.txt"),
)


@pytest.mark.parametrize("remote", [False, True])
def test_an_image_has_what_stands_beside_it(tmp_path: Path, remote: bool) -> None:
    root = f"memory://beside-{tmp_path.name}" if remote else str(tmp_path)
    for name in (*NAMES, *BESIDE):
        with fsspec.open(f"{root}/{name}", "wb", auto_mkdir=True) as file:
            file.write(name.encode())
    files = _concept_files(Concept(name="cats", path=root, include_subdirectories=True))
    names = ("path", "sidecar_path", "mask_path", "sidecar_size")
    rows = zip(*(files[name].to_pylist() for name in names), strict=True)
    found = {
        path.partition(f"{tmp_path.name}/")[2]: (
            text.partition(f"{tmp_path.name}/")[2],
            mask.partition(f"{tmp_path.name}/")[2],
            size,
        )
        for path, text, mask, size in rows
    }
    assert found == {
        "cat.jpg": ("cat.txt", "cat-masklabel.png", 7),
        "cat.v2.webp": ("cat.v2.caption", "cat.v2-masklabel.png", 14),
        "a.b/cat.PNG": ("a.b/cat.txt", "a.b/cat-masklabel.png", 11),
        "a.b/lonely.png": ("", "", 0),
    }
