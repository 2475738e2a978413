"""The photos behind a model: their counts, how they are found, and whether they changed."""

from pathlib import Path

import pyarrow as pa
import pytest

from storage.digest import digest_bytes
from tasks.lineage.sources import file_state, find_source, list_sources

IDS = [digest_bytes(b"first"), digest_bytes(b"second")]


def make_rows(folder: Path) -> pa.Table:
    """A photo with two tiles in one concept, and another that is in two concepts."""
    names = ["a", "a", "a", "b", "c"]
    return pa.table(
        {
            "source_id": pa.array([IDS[0]] * 3 + [IDS[1]] * 2, pa.binary(16)),
            "path": [str(folder / f"{name}.jpg") for name in names],
            "kind": ["detail", "full", "detail", "full", "full"],
            "scale": [2.0, 0.0, 2.0, 0.0, 0.0],
            "prompt_origin": ["generated", "sidecar", "inherited", "edited", "sidecar"],
            "concept": ["x", "x", "x", "x", "y"],
            "top": [64, 0, 0, 0, 0],
            "left": [0] * 5,
            "variation": [0] * 5,
        }
    )


def test_sources_are_counted(tmp_path: Path) -> None:
    told = [
        (Path(one["path"]).name, one["rows"], one["tiles"], one["captions"])
        for one in list_sources(make_rows(tmp_path))
    ]
    assert told == [("a.jpg", 3, 2, 1), ("b.jpg", 1, 0, 1), ("c.jpg", 1, 0, 0)]


def test_a_photo_is_found_by_path_id_or_bytes(tmp_path: Path) -> None:
    rows = make_rows(tmp_path)
    by_path = find_source(rows, str(tmp_path / "a.jpg"))
    assert by_path["kind"].to_pylist() == ["full", "detail", "detail"]
    assert by_path["top"].to_pylist() == [0, 0, 64]
    assert find_source(rows, str(tmp_path / "b.jpg"))["concept"].to_pylist() == ["x", "y"]
    for length in (9, 16, 32):
        assert find_source(rows, IDS[0].hex()[:length]).equals(by_path)
    renamed = tmp_path / "renamed.jpg"
    renamed.write_bytes(b"first")
    assert find_source(rows, str(renamed)).equals(by_path)
    renamed.write_bytes(b"third")
    for unknown in (str(renamed), "no.jpg", "ffffffffff", "12"):
        assert find_source(rows, unknown).num_rows == 0


def test_a_path_that_two_photos_had_is_not_guessed(tmp_path: Path) -> None:
    rows = make_rows(tmp_path)
    same = rows.set_column(1, "path", pa.array(["photo.jpg"] * 5))
    with pytest.raises(ValueError, match="means 2 photos"):
        find_source(same, "photo.jpg")


def test_the_state_of_a_file(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    assert file_state(str(photo), IDS[0]) == "no longer there"
    photo.write_bytes(b"first")
    assert file_state(str(photo), IDS[0]) == file_state(photo.as_uri(), IDS[0]) == "unchanged"
    photo.write_bytes(b"other")
    assert file_state(str(photo), IDS[0]) == "changed since"
    assert file_state("s3://bucket/a.jpg", IDS[0]) == "not on this machine"
