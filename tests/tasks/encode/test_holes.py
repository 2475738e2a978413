"""Holes in the cache of an inpainting model: what is stored, what is shared, what is made anew."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.reading import ItemReader
from storage.store import open_store
from tasks.families import get_family
from tasks.families.sources import resolve_model
from tasks.families.vae import load_vae_encoder
from tasks.imaging.decode import decode
from tasks.imaging.jobs import row_view
from tasks.imaging.mask import average
from tasks.imaging.views import cut_views, view_pixels
from tasks.train.rows import item_ref, latent_ref
from tests.mask_files import half_mask, write_mask
from tests.model_fixtures import TinyModels
from tests.projects import Prepared, Project, make_project

FILES = "concepts.0.image.mask_source='file'"
NO_TILES = "concepts.0.image.detail_crops.enabled=false"
MASKED = "photo0.jpg"


@pytest.fixture
def project(tmp_path: Path, tiny_models: TinyModels) -> Project:
    """Two photos; the left half of the first stays, the right half is to be painted."""
    family = "sd15_inpaint"
    made = make_project(tmp_path / "project", tiny_models[family], family=family, num_photos=2)
    write_mask(made.photos / MASKED, half_mask())
    return made


def stored(project: Project, prepared: Prepared) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every row with the tensors of its item."""
    rows = prepared.rows.to_pylist()
    with ItemReader(open_store(project.config().store.url)) as reader:
        return list(zip(rows, reader.read_many([latent_ref(row) for row in rows]), strict=True))


def vae(project: Project) -> Any:
    model = project.config().model
    family = get_family(model.family)
    source = resolve_model(model.base, family)
    return load_vae_encoder(source, family, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_sample_with_a_mask_has_its_hole_beside_its_latent(
    project: Project, batch_size: int
) -> None:
    flip = "concepts.0.image.enable_fixed_flip=true"
    prepared = project.prepare(FILES, flip, f"data.encode_batch_size={batch_size}")
    encode, num_masked = vae(project), 0
    for row, item in stored(project, prepared):
        pixels = view_pixels(decode(Path(row["path"]).read_bytes()), row_view(row))[:, ::-1]
        expected = {"latent": pixels}
        if row["path"].endswith(MASKED):
            num_masked += 1
            ((_, mask),) = cut_views(half_mask(), [row_view(row)], average)
            hole = mask[:, ::-1] >= 128
            expected["masked"] = np.dstack([pixels, ~hole])
            assert torch.equal(item.pop("mask")[0], torch.from_numpy(hole[::8, ::8].copy()))
        assert item.keys() == expected.keys()
        for name, image in expected.items():
            (latent,) = encode([image])
            torch.testing.assert_close(item[name], latent, atol=1e-5, rtol=1e-4)
    assert num_masked > 2


def test_a_grey_image_of_each_bucket_is_there_for_the_rest(project: Project) -> None:
    prepared = project.prepare(FILES)
    rows = prepared.rows.to_pylist()
    images = prepared.version.meta["extra"]["grey"]
    assert {image["bucket"] for image in images} == {
        f"{row['bucket_width']}x{row['bucket_height']}" for row in rows
    }
    with ItemReader(open_store(project.config().store.url)) as reader:
        items = reader.read_many([item_ref(image) for image in images])
    for image, item in zip(images, items, strict=True):
        width, height = map(int, image["bucket"].split("x"))
        (grey,) = vae(project)([np.zeros((height, width, 4), np.uint8)])
        torch.testing.assert_close(item["masked"], grey, atol=1e-5, rtol=1e-4)
        assert item["mask"].shape == (1, height // 8, width // 8)
        assert (item["mask"] == 1).all()


def test_samples_without_a_mask_are_those_of_the_plain_family(
    project: Project, tiny_models: TinyModels
) -> None:
    # The same VAE in a model that does not inpaint.
    base = project.folder / "plain"
    shutil.copytree(tiny_models["sd15"], base)
    shutil.rmtree(base / "vae")
    shutil.copytree(tiny_models["sd15_inpaint"] / "vae", base / "vae")
    plain = project.prepare(NO_TILES, FILES, f"model.base='{base}'", "model.family=sd15")
    assert "grey" not in plain.version.meta["extra"]
    after = project.prepare(NO_TILES, FILES)
    num_grey = len(after.version.meta["extra"]["grey"])
    assert after.counts["latents"].computed == 1 + num_grey
    assert after.counts["latents"].reused == 1
    back = project.prepare(NO_TILES, FILES, f"model.base='{base}'", "model.family=sd15")
    assert back.counts["latents"].computed == 0
    assert all(item.keys() == {"latent"} for _, item in stored(project, back))


def test_an_edited_mask_encodes_its_samples_anew(project: Project) -> None:
    before = project.prepare(FILES)
    num_masked = sum(row["path"].endswith(MASKED) for row in before.rows.to_pylist())
    again = project.prepare(FILES)
    assert again.counts["latents"].computed == 0
    assert not again.created
    write_mask(project.photos / MASKED, half_mask()[:, ::-1].copy())
    planned = project.plan(FILES)["stages"]["latents"]
    after = project.prepare(FILES)
    counts = after.counts["latents"]
    assert planned["computed"] == counts.computed == counts.changed == num_masked
    assert counts.reasons == {
        "the source, its mask, its geometry or its augmentation changed": num_masked
    }
    assert counts.removed == 0
    assert after.created
    old, new = (
        {row["row_id"]: item for row, item in stored(project, one)} for one in (before, after)
    )
    assert all(torch.equal(old[row]["latent"], item["latent"]) for row, item in new.items())


def test_renamed_photos_with_their_masks_are_free(project: Project) -> None:
    project.prepare(FILES)
    for path in list(project.photos.glob("photo0*")):
        path.rename(path.with_name(path.name.replace("photo0", "renamed")))
    after = project.prepare(FILES)
    assert after.counts["latents"].computed == 0
    assert after.counts["latents"].removed == 0


def test_equal_images_of_two_concepts_have_each_their_own_hole(project: Project) -> None:
    shutil.copytree(project.photos, project.folder / "others")
    write_mask(project.folder / "others" / MASKED, half_mask()[:, ::-1].copy())
    project.run_toml.write_text(
        project.run_toml.read_text()
        + "\n[[concepts]]\nname = 'others'\npath = 'others'\n"
        + "[concepts.image]\nmask_source = 'file'\n"
    )
    prepared = project.prepare(NO_TILES, FILES)
    masks = {
        row["concept"]: item["mask"][0]
        for row, item in stored(project, prepared)
        if row["path"].endswith(MASKED)
    }
    assert masks["photos"].float().mean() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(masks["photos"].flip(1), masks["others"])


def test_what_a_bad_mask_was_for_is_painted_all_over(project: Project) -> None:
    write_mask(project.photos / MASKED, half_mask(100, 100))
    first = project.prepare(NO_TILES, FILES)
    assert first.counts["masks"].rejected == 1
    assert all(item.keys() == {"latent"} for _, item in stored(project, first))
    assert project.plan(NO_TILES, FILES)["stages"]["latents"]["computed"] == 0
    assert project.prepare(NO_TILES, FILES).counts["latents"].computed == 0


def test_a_mask_that_vanishes_during_the_run_leaves_its_samples_for_the_next_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.encode import holes

    path = project.photos / "photo0-masklabel.png"
    original, real = path.read_bytes(), holes.read_mask

    def vanish_then_read(*arguments: Any) -> Any:
        path.unlink(missing_ok=True)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(holes, "read_mask", vanish_then_read)
        result = project.prepare(NO_TILES, FILES)
    assert result.counts["latents"].rejected == 1
    assert {Path(name).name for name in result.rows["path"].to_pylist()} == {"photo1.jpg"}
    path.write_bytes(original)
    healed = project.prepare(NO_TILES, FILES)
    assert healed.rows.num_rows == 2
