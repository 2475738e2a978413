"""Masks in a whole preparation: carried along with every view, and made anew by themselves."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tasks.imaging.augment import augment_mask
from tasks.imaging.jobs import row_view
from tasks.imaging.mask import average, mask_cells
from tasks.imaging.views import cut_views
from tests.mask_files import half_mask, stored_masks, write_mask
from tests.projects import Project, make_old
from tests.tasks.pipeline.augmenting import (
    IMAGE,
    NO_TILES,
    PHOTOS,
    TILES,
    drawn,
    options,
    rows_of,
)

FILES = f"{IMAGE}mask_source='file'"


@pytest.fixture
def masked(plain: Project) -> Project:
    """Two of the photos have masks: half black, and a black corner."""
    write_mask(plain.photos / "photo0.jpg", half_mask())
    corner = np.full((112, 160), 255, np.uint8)
    corner[:40, :50] = 0
    write_mask(plain.photos / "photo1.jpg", corner)
    return plain


def test_half_a_mask_is_half_the_cells_and_flips_with_its_sample(masked: Project) -> None:
    for flip in (False, True):
        option = f"{IMAGE}enable_fixed_flip={str(flip).lower()}"
        result = masked.prepare(NO_TILES, FILES, option)
        found = stored_masks(masked, result)
        (row,) = [row for row in rows_of(result) if row["path"].endswith("photo0.jpg")]
        cells = found[row["row_id"]]
        assert cells is not None
        assert cells.shape == (row["bucket_height"] // 8, row["bucket_width"] // 8)
        half = cells.shape[1] // 2
        left, right = cells[:, :half], cells[:, -half:]
        assert ((right if flip else left) == 0).all()
        assert ((left if flip else right) == 255).all()
        assert sum(cells is None for cells in found.values()) == PHOTOS - 2


def test_masks_follow_every_view_variation_and_rotation(masked: Project) -> None:
    chosen = [*options("rotate", "random"), *options("flip", "random"), *options("hue", "random")]
    result = masked.prepare(FILES, *chosen, "concepts.0.image_variations=2")
    found = stored_masks(masked, result)
    rows = [row for row in rows_of(result) if row["path"].endswith(("photo0.jpg", "photo1.jpg"))]
    assert len(rows) > 2 * TILES
    for row in rows:
        source = half_mask()
        if row["path"].endswith("photo1.jpg"):
            source = np.full((112, 160), 255, np.uint8)
            source[:40, :50] = 0
        ((_, cut),) = cut_views(source, [row_view(row)], average)
        expected = mask_cells(augment_mask(cut, drawn(row)), 8)[0]
        assert np.array_equal(found[row["row_id"]], expected)
    assert len({found[row["row_id"]].tobytes() for row in rows}) > TILES  # type: ignore[union-attr]


def test_an_edited_mask_makes_only_its_masks_anew(masked: Project) -> None:
    before = masked.prepare(FILES)
    write_mask(masked.photos / "photo0.jpg", half_mask()[:, ::-1].copy())
    plan = masked.plan(FILES)["stages"]
    after = masked.prepare(FILES)
    num_rows = sum(row["path"].endswith("photo0.jpg") for row in rows_of(after))
    nothing = dict.fromkeys(("scan", "prompts", "crops", "text", "latents"), 0)
    assert after.computed() == nothing | {"masks": num_rows}
    assert after.counts["masks"].changed == num_rows
    assert after.counts["masks"].reasons == {
        "the mask, the source or its geometry changed": num_rows
    }
    assert plan["masks"]["computed"] == num_rows
    assert after.created
    assert after.version.content_digest != before.version.content_digest
    old, new = stored_masks(masked, before), stored_masks(masked, after)
    assert old.keys() == new.keys()
    changed = {row for row in new if not np.array_equal(old[row], new[row])}  # type: ignore[arg-type]
    names = {Path(row["path"]).name for row in rows_of(after) if row["row_id"] in changed}
    assert names == {"photo0.jpg"}


def test_a_touched_mask_makes_nothing_anew(masked: Project) -> None:
    masked.prepare(NO_TILES, FILES)
    path = masked.photos / "photo0-masklabel.png"
    path.touch()
    make_old(path)
    after = masked.prepare(NO_TILES, FILES)
    assert after.counts["masks"].computed == 0
    assert not after.created


def test_a_mask_is_shared_by_nothing_but_its_sample(masked: Project) -> None:
    """Another flip is another sample; the same sample keeps its mask."""
    first = masked.prepare(NO_TILES, FILES)
    flipped = masked.prepare(NO_TILES, FILES, *options("flip", "fixed"))
    back = masked.prepare(NO_TILES, FILES)
    assert [one.counts["masks"].computed for one in (first, flipped, back)] == [2, 2, 0]


def test_equal_images_of_two_concepts_have_each_their_own_mask(masked: Project) -> None:
    shutil.copytree(masked.photos, masked.folder / "others")
    (masked.folder / "others" / "photo1-masklabel.png").unlink()
    write_mask(masked.folder / "others" / "photo0.jpg", half_mask()[:, ::-1].copy())
    masked.run_toml.write_text(
        masked.run_toml.read_text()
        + "\n[[concepts]]\nname = 'others'\npath = 'others'\n"
        + "[concepts.image]\nmask_source = 'file'\n"
    )
    result = masked.prepare(NO_TILES, FILES)
    found = stored_masks(masked, result)
    cells = {
        (row["concept"], Path(row["path"]).name): found[row["row_id"]] for row in rows_of(result)
    }
    one, other = cells["photos", "photo0.jpg"], cells["others", "photo0.jpg"]
    assert one is not None
    assert other is not None
    assert np.array_equal(one[:, ::-1], other)
    assert cells["photos", "photo1.jpg"] is not None
    assert cells["others", "photo1.jpg"] is None
