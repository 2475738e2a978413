"""Masks: which samples get one, what happens to bad mask files, and what is made anew."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.quarantine import read_quarantine
from storage.store import open_store
from tasks.files import masks
from tests.mask_files import half_mask, stored_masks, write_mask
from tests.model_fixtures import TinyModels
from tests.photos import photo_pixels
from tests.projects import Prepared, Project, make_old, make_project

FILES = "concepts.0.image.mask_source='file'"
ALPHA = "concepts.0.image.mask_source='alpha'"
NO_TILES = "concepts.0.image.detail_crops.enabled=false"
TILES = 12


@pytest.fixture
def project(tmp_path: Path, tiny_models: TinyModels) -> Project:
    """Three photos; the first has a mask whose left half is black."""
    made = make_project(tmp_path / "project", tiny_models["sd15"])
    write_mask(made.photos / "photo0.jpg", half_mask())
    return made


def masked(project: Project, prepared: Prepared) -> dict[str, int]:
    """How many rows of each photo have a mask."""
    found: dict[str, int] = {}
    masks_of = stored_masks(project, prepared)
    for row in prepared.rows.to_pylist():
        if masks_of[row["row_id"]] is not None:
            name = Path(row["path"]).name
            found[name] = found.get(name, 0) + 1
    return found


def test_every_sample_of_a_photo_with_a_mask_file_has_its_mask(project: Project) -> None:
    plan = project.plan(FILES)["stages"]["masks"]
    assert not (project.folder / "store").exists(), "a plan writes nothing"
    result = project.prepare(FILES)
    rows_of_photo = sum(row.endswith("photo0.jpg") for row in result.rows["path"].to_pylist())
    assert rows_of_photo > 1
    assert masked(project, result) == {"photo0.jpg": rows_of_photo}
    assert result.counts["masks"].computed == rows_of_photo
    assert plan["computed"] == 1 + TILES
    assert not plan["exact"]
    assert result.counts["scan"].wanted == 3, "a mask is no source"
    assert project.prepare(FILES).counts["masks"].computed == 0
    assert project.plan(FILES)["stages"]["masks"]["computed"] == 0


def test_masks_lie_on_the_cells_of_their_latents(project: Project) -> None:
    result = project.prepare(FILES)
    found = stored_masks(project, result)
    for row in result.rows.to_pylist():
        cells = found[row["row_id"]]
        if cells is None:
            continue
        assert cells.dtype == np.uint8
        assert cells.shape == (row["bucket_height"] // 8, row["bucket_width"] // 8)
        if row["kind"] == "detail":
            # The middle of the resized photo, in cells of this tile.
            edge = (row["resized_width"] / 2 - row["left"]) / 8
            columns = np.arange(cells.shape[1])
            assert (cells[:, columns + 1 <= edge] == 0).all()
            assert (cells[:, columns >= edge + 0.2] == 255).all()


def test_without_a_mask_source_or_with_training_encoding_there_are_none(project: Project) -> None:
    for options in ((), (FILES, "data.latent_caching=false")):
        result = project.prepare(NO_TILES, *options)
        assert result.counts["masks"].wanted == 0
        assert masked(project, result) == {}
        assert result.rows.num_rows == 3
    assert "masks" not in project.plan(NO_TILES)["stages"]


def test_a_validation_concept_has_masks_too(project: Project) -> None:
    extra = "\n[[concepts]]\nname = 'held out'\npath = 'photos'\ntype = 'validation'\n"
    project.run_toml.write_text(project.run_toml.read_text() + extra)
    result = project.prepare(NO_TILES, "concepts.1.image.mask_source='file'")
    found = stored_masks(project, result)
    rows = [row for row in result.rows.to_pylist() if row["path"].endswith("photo0.jpg")]
    splits = {row["split"] for row in rows if found[row["row_id"]] is not None}
    assert "validation" in splits


# --- mask files that cannot be used ----------------------------------------------------------


def test_bad_mask_files_are_quarantined_and_their_samples_stay(project: Project) -> None:
    write_mask(project.photos / "photo1.jpg", half_mask(100, 100))
    broken = project.photos / "photo2-masklabel.png"
    broken.write_bytes(b"no picture at all")
    result = project.prepare(FILES)
    assert set(masked(project, result)) == {"photo0.jpg"}
    assert len({Path(path).name for path in result.rows["path"].to_pylist()}) == 3
    assert result.counts["masks"].rejected == 2
    reasons = {Path(path).name: reason for path, reason in result.rejects}
    assert reasons.keys() == {"photo1.jpg", "photo2.jpg"}
    assert "photo1-masklabel.png: the mask is 100 x 100" in reasons["photo1.jpg"]
    assert "photo2-masklabel.png: not an image" in reasons["photo2.jpg"]
    quarantined = read_quarantine(open_store(project.config().store.url), "masks")
    assert quarantined.num_rows == 2
    again = project.prepare(FILES)
    assert (again.counts["masks"].computed, again.counts["masks"].rejected) == (0, 2)


def test_a_repaired_mask_file_is_used(project: Project) -> None:
    broken = project.photos / "photo2-masklabel.png"
    broken.write_bytes(b"no picture at all")
    assert set(masked(project, project.prepare(NO_TILES, FILES))) == {"photo0.jpg"}
    write_mask(project.photos / "photo2.jpg", half_mask())
    healed = project.prepare(NO_TILES, FILES)
    assert masked(project, healed) == {"photo0.jpg": 1, "photo2.jpg": 1}
    assert healed.counts["masks"].computed == 1
    assert healed.counts["masks"].rejected == 0


def test_a_mask_file_that_cannot_be_read_says_so_until_it_can(project: Project) -> None:
    path = project.photos / "photo1-masklabel.png"
    path.symlink_to(project.folder / "nowhere.png")
    for _ in range(2):
        result = project.prepare(NO_TILES, FILES)
        assert masked(project, result) == {"photo0.jpg": 1}
        assert result.rows.num_rows == 3
        assert result.counts["masks"].rejected == 1
        ((rejected, reason),) = result.rejects
        assert rejected.endswith("photo1.jpg")
        assert "photo1-masklabel.png: a symbolic link that leads nowhere" in reason
    path.unlink()
    write_mask(project.photos / "photo1.jpg", half_mask())
    healed = project.prepare(NO_TILES, FILES)
    assert masked(project, healed) == {"photo0.jpg": 1, "photo1.jpg": 1}
    assert healed.rejects == []


def test_one_mask_may_fit_one_photo_and_not_another(project: Project) -> None:
    project.add_photo("square", 9, "a square", (112, 112))
    write_mask(project.photos / "square.jpg", half_mask())
    result = project.prepare(NO_TILES, FILES)
    assert masked(project, result) == {"photo0.jpg": 1}
    assert [Path(path).name for path, _ in result.rejects] == ["square.jpg"]


def test_a_mask_that_changes_during_the_run_is_left_for_the_next_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.photos / "photo0-masklabel.png"
    original = path.read_bytes()
    real = masks.read_source

    def change_then_read(*arguments: object) -> bytes:
        path.write_bytes(original + b"\0")
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(masks, "read_source", change_then_read)
        result = project.prepare(NO_TILES, FILES)
    assert masked(project, result) == {}
    assert result.counts["masks"].rejected == 1
    assert "the next run sees it anew" in result.rejects[0][1]
    assert masked(project, project.prepare(NO_TILES, FILES)) == {"photo0.jpg": 1}


# --- what is made anew -----------------------------------------------------------------------


def test_a_renamed_photo_with_its_mask_is_free(project: Project) -> None:
    project.prepare(NO_TILES, FILES)
    for suffix in (".jpg", ".txt", "-masklabel.png"):
        (project.photos / f"photo0{suffix}").rename(project.photos / f"renamed{suffix}")
    after = project.prepare(NO_TILES, FILES)
    assert after.counts["masks"].computed == 0
    assert after.counts["masks"].removed == 0
    assert masked(project, after) == {"renamed.jpg": 1}


def test_a_removed_mask_lets_the_photo_count_whole(project: Project) -> None:
    project.prepare(NO_TILES, FILES)
    (project.photos / "photo0-masklabel.png").unlink()
    after = project.prepare(NO_TILES, FILES)
    assert (after.counts["masks"].wanted, after.counts["masks"].removed) == (0, 1)
    assert masked(project, after) == {}
    assert after.rows.num_rows == 3


# --- transparency ----------------------------------------------------------------------------


def test_transparency_is_a_mask_and_images_without_it_count_whole(project: Project) -> None:
    pixels = np.dstack([photo_pixels(160, 112, 5), half_mask()])
    path = project.photos / "cut_out.png"
    Image.fromarray(pixels).save(path)
    make_old(path)
    result = project.prepare(NO_TILES, ALPHA, "data.aspect_ratio_bucketing=false")
    assert masked(project, result) == {"cut_out.png": 1}
    found = stored_masks(project, result)
    (row,) = [row for row in result.rows.to_pylist() if row["path"].endswith("cut_out.png")]
    cells = found[row["row_id"]]
    assert cells is not None
    inside = (80 - row["left"]) * row["bucket_width"] / row["width"] / 8
    columns = np.arange(cells.shape[1])
    assert (cells[:, columns + 1 <= inside] == 0).all()
    assert (cells[:, columns >= inside] == 255).all()
