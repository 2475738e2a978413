"""Augmentation and variations in a whole preparation: what each option does to the rows of the
dataset and to what is encoded, and what a change of it makes anew."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tasks.families import get_family
from tasks.families.loading import load_component
from tasks.families.sources import resolve_model
from tasks.families.vae import encode_latents
from tasks.imaging.augment import augment
from tasks.imaging.decode import decode
from tasks.imaging.jobs import row_view
from tasks.imaging.views import sample_id, view_pixels
from tests.projects import Project
from tests.tasks.pipeline.augmenting import (
    IMAGE,
    NO_TILES,
    PHOTOS,
    STRENGTHS,
    drawn,
    options,
    rows_of,
)

FIXED = {"rotate": 20, "brightness": 1.3, "contrast": 1.3, "saturation": 1.3, "hue": 0.2}
RANGES = {"rotate": (-20, 20), "hue": (-0.2, 0.2)}


def stored_latent(project: Project, row: dict[str, Any]) -> torch.Tensor:
    name = f"{row['latent_stage']}/shards/{row['latent_shard']}.safetensors"
    with safe_open(project.folder / "store" / name, "pt") as shard:
        latent: torch.Tensor = shard.get_tensor(f"{row['sample_id'].hex()}.latent")
    return latent


def vae_of(project: Project) -> Any:
    model = project.config().model
    family = get_family(model.family)
    vae = load_component(resolve_model(model.base, family), family, "vae", torch.float32)
    return vae.to(memory_format=torch.channels_last)


def assert_latents_are_the_augmented_pixels(project: Project, rows: list[dict[str, Any]]) -> None:
    vae = vae_of(project)
    for row in rows:
        cut = view_pixels(decode(Path(row["path"]).read_bytes()), row_view(row))
        pixels = torch.from_numpy(augment(cut, drawn(row))).permute(2, 0, 1)[None]
        expected = encode_latents(vae, pixels.contiguous(memory_format=torch.channels_last))[0]
        torch.testing.assert_close(stored_latent(project, row), expected, rtol=1e-4, atol=1e-5)


# --- each option -----------------------------------------------------------------------------


@pytest.mark.parametrize("effect", STRENGTHS)
@pytest.mark.parametrize("kind", ["random", "fixed"])
def test_a_strength_is_drawn_per_sample_and_encoded(plain: Project, effect: str, kind: str) -> None:
    result = plain.prepare(NO_TILES, *options(effect, kind))
    rows = rows_of(result)
    assert len(rows) == PHOTOS
    assert all(drawn(row).keys() == {effect} for row in rows)
    values = [drawn(row)[effect] for row in rows]
    if kind == "fixed":
        assert values == [FIXED[effect]] * PHOTOS
    else:
        low, high = RANGES.get(effect, (0.7, 1.3))
        assert all(low <= value <= high for value in values)
        assert len(set(values)) == PHOTOS
    assert all(row["sample_id"] == sample_id(row["view_id"], drawn(row)) for row in rows)
    assert result.computed()["latents"] == PHOTOS
    assert result.counts["latents"].changed == PHOTOS
    assert result.computed()["crops"] == 0
    assert_latents_are_the_augmented_pixels(plain, rows[:2])


def test_a_fixed_flip_flips_every_sample(plain: Project) -> None:
    rows = rows_of(plain.prepare(NO_TILES, *options("flip", "fixed")))
    assert [drawn(row) for row in rows] == [{"flip": True}] * PHOTOS
    assert_latents_are_the_augmented_pixels(plain, rows[:2])


def test_a_random_flip_encodes_only_what_it_flips(plain: Project) -> None:
    before = {row["sample_id"] for row in rows_of(plain.prepare(NO_TILES))}
    result = plain.prepare(NO_TILES, *options("flip", "random"))
    flipped = [row for row in rows_of(result) if drawn(row)]
    assert all(drawn(row) == {"flip": True} for row in flipped)
    assert 0 < len(flipped) < PHOTOS
    assert result.computed()["latents"] == len(flipped)
    kept = {row["sample_id"] for row in rows_of(result)} & before
    assert len(kept) == PHOTOS - len(flipped)
    assert_latents_are_the_augmented_pixels(plain, flipped)


def test_the_seed_of_the_data_draws_anew(plain: Project) -> None:
    chosen = options("brightness", "random")
    first, second = (
        rows_of(plain.prepare(NO_TILES, *chosen, f"data.seed={seed}")) for seed in (0, 1)
    )
    same = {row["augmentation"] for row in first} & {row["augmentation"] for row in second}
    assert not same


def test_crop_jitter_moves_the_crop_and_off_centres_it(plain: Project) -> None:
    plain.add_photo("odd", 50, "a photo that fits no bucket", (200, 112))
    on, off = (
        {row["path"]: row for row in rows_of(plain.prepare(NO_TILES, f"{IMAGE}{option}"))}
        for option in ("enable_crop_jitter=true", "enable_crop_jitter=false")
    )
    path = str(plain.photos / "odd.jpg")
    assert off[path]["width"] == 200
    spare = 112 - off[path]["height"]
    assert spare >= 3
    assert abs(off[path]["top"] - spare / 2) <= 1
    assert on[path]["top"] != off[path]["top"]
    assert 0 <= on[path]["top"] <= spare


def test_a_resolution_of_its_own_replaces_that_of_the_data(plain: Project) -> None:
    chosen = [f"{IMAGE}enable_resolution_override=true", f"{IMAGE}resolution_override='96,128'"]
    result = plain.prepare(NO_TILES, *chosen)
    edges = Counter(
        round((row["bucket_width"] * row["bucket_height"]) ** 0.5 / 32) * 32
        for row in rows_of(result)
    )
    assert edges == {96: PHOTOS, 128: PHOTOS}


# --- variations ------------------------------------------------------------------------------


def test_variations_are_drawn_each_by_itself(plain: Project) -> None:
    chosen = [NO_TILES, *options("brightness", "random"), *options("flip", "random")]
    once = plain.prepare(*chosen)
    three = plain.prepare(*chosen, "concepts.0.image_variations=3")
    rows = rows_of(three)
    assert Counter(row["variation"] for row in rows) == {0: PHOTOS, 1: PHOTOS, 2: PHOTOS}
    assert len({row["sample_id"] for row in rows}) == 3 * PHOTOS
    assert len({row["augmentation"] for row in rows}) == 3 * PHOTOS
    firsts = {row["row_id"] for row in rows if row["variation"] == 0}
    assert firsts == {row["row_id"] for row in rows_of(once)}
    assert three.computed()["latents"] == 2 * PHOTOS
    assert (three.counts["latents"].new, three.counts["latents"].changed) == (2 * PHOTOS, 0)
    assert_latents_are_the_augmented_pixels(plain, [row for row in rows if row["variation"]][:4])


def test_raising_and_lowering_the_number_encodes_only_what_is_new(plain: Project) -> None:
    chosen = [NO_TILES, *options("contrast", "random")]
    counts = [
        plain.prepare(*chosen, f"concepts.0.image_variations={number}").computed()["latents"]
        for number in (2, 4, 1, 3)
    ]
    assert counts == [2 * PHOTOS, 2 * PHOTOS, 0, 0]


def test_variations_that_come_out_alike_are_one_row(plain: Project) -> None:
    chosen = [f"{IMAGE}enable_crop_jitter=false", "concepts.0.image_variations=3"]
    result = plain.prepare(NO_TILES, *chosen)
    assert result.rows.num_rows == PHOTOS
    assert {row["variation"] for row in rows_of(result)} == {0}


def test_tiles_vary_too_and_are_named_by_their_variation(plain: Project) -> None:
    chosen = options("brightness", "random")
    plain.prepare(*chosen)
    two = plain.prepare(*chosen, "concepts.0.image_variations=2")
    assert two.counts["latents"].changed == 0
    per_view = Counter((row["view_id"], row["kind"]) for row in rows_of(two))
    tiles = [number for (_, kind), number in per_view.items() if kind == "detail"]
    assert len(tiles) > PHOTOS
    assert set(tiles) == {2}
    assert two.computed()["latents"] == two.rows.num_rows // 2
    stronger = plain.prepare(
        *chosen,
        "concepts.0.image_variations=2",
        f"{IMAGE}random_brightness_max_strength=0.4",
    )
    assert stronger.counts["latents"].changed == stronger.counts["latents"].computed
    assert stronger.computed()["latents"] == two.rows.num_rows
    assert stronger.computed()["crops"] == 0


# --- what a change makes anew ----------------------------------------------------------------


def test_the_strength_of_an_effect_that_is_off_changes_nothing(plain: Project) -> None:
    for name, strength in STRENGTHS.values():
        assert plain.prepare(NO_TILES, f"{IMAGE}{name}={strength}").computed()["latents"] == 0


def test_a_strength_encodes_only_the_concept_that_it_is_of(plain: Project) -> None:
    shutil.copytree(plain.photos, plain.folder / "others")
    plain.run_toml.write_text(
        plain.run_toml.read_text()
        + "\n[[concepts]]\nname = 'others'\npath = 'others'\n[concepts.image]\n"
        + "enable_random_hue = true\nrandom_hue_max_strength = 0.2\n"
    )
    first = plain.prepare(NO_TILES)
    assert first.computed()["latents"] == PHOTOS
    after = plain.prepare(NO_TILES, "concepts.1.image.random_hue_max_strength=0.3")
    assert after.computed()["latents"] == PHOTOS
    kept = {row["row_id"] for row in rows_of(first) if row["concept"] == "photos"}
    assert kept <= {row["row_id"] for row in rows_of(after)}


def test_another_effect_leaves_the_draws_of_the_first_alone(plain: Project) -> None:
    flip = {r["path"]: r for r in rows_of(plain.prepare(NO_TILES, *options("flip", "random")))}
    both = plain.prepare(NO_TILES, *options("flip", "random"), *options("hue", "random"))
    for row in rows_of(both):
        assert drawn(row).get("flip") == drawn(flip[row["path"]]).get("flip")
        assert "hue" in drawn(row)


def test_validation_is_never_varied(plain: Project) -> None:
    (plain.folder / "train").mkdir()
    shutil.move(plain.photos / "photo0.jpg", plain.folder / "train" / "photo0.jpg")
    plain.run_toml.write_text(
        plain.run_toml.read_text() + "\n[[concepts]]\nname = 'trained'\npath = 'train'\n"
    )
    chosen = [*options("flip", "fixed"), *options("hue", "random"), "concepts.0.image_variations=3"]
    result = plain.prepare(NO_TILES, *chosen, "concepts.0.type='validation'")
    rows = [row for row in rows_of(result) if row["split"] == "validation"]
    assert len(rows) == PHOTOS - 1
    assert {row["augmentation"] for row in rows} == {None}


def test_without_latent_caching_nothing_is_encoded_and_what_was_stays(plain: Project) -> None:
    chosen = [NO_TILES, *options("flip", "random"), "concepts.0.image_variations=3"]
    cached = plain.prepare(*chosen)
    off = plain.prepare(*chosen, "data.latent_caching=false")
    assert (off.counts["latents"].wanted, off.computed()["latents"]) == (0, 0)
    assert off.rows.num_rows == PHOTOS
    assert {row["variation"] for row in rows_of(off)} == {0}
    assert {row["latent_shard"] for row in rows_of(off)} == {None}
    assert plain.plan(*chosen, "data.latent_caching=false")["stages"]["latents"]["wanted"] == 0
    again = plain.prepare(*chosen)
    assert again.computed()["latents"] == 0
    assert again.version.content_digest == cached.version.content_digest
