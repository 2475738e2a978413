"""Training without cached latents: the same pixels as cached ones, a new variation every epoch."""

from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Event

import pytest
import torch

from storage.reading import ItemReader
from storage.store import open_store
from tasks.config.objectives import Noise
from tasks.epochs.order import epoch_plan
from tasks.epochs.settings import order_settings
from tasks.families import get_family
from tasks.families.sources import resolve_model
from tasks.train.assemble import Draws, Source
from tasks.train.backup import newest_backup, read_facts
from tasks.train.batches import step_batches
from tasks.train.child import train_rank
from tasks.train.encoding import build_encoder, encode_rows, epoch_view
from tasks.train.events import loss_history, read_status
from tasks.train.objectives import OBJECTIVES
from tasks.train.rows import load_rows
from tasks.train.spec import TrainSpec, write_spec
from tests.projects import Project, make_project
from tests.tasks.train.comparing import assert_equal_backups

FRESH = "data.latent_caching=false"
AUGMENTED = (
    "concepts.0.image.enable_random_flip=true",
    "concepts.0.image.enable_random_brightness=true",
    "concepts.0.image.random_brightness_max_strength=0.5",
)
TRAIN = ("train.max_steps=4", "train.backup.every=2", "train.device='cpu'")


@pytest.fixture
def project(tmp_path, tiny_models) -> Project:
    """Two photos that fit their bucket, and one that jitter can move in its own."""
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    project.add_photo("wide", 2, "a wide photo", (400, 70))
    return project


def make_source(project: Project, *overrides: str) -> Source:
    """What training makes its batches of, for the dataset of these settings."""
    config, version = project.config(*overrides), project.prepare(*overrides).version
    store, family = open_store(config.store.url), get_family(config.model.family)
    rows, model = load_rows(store, version), resolve_model(config.model.base, family)
    encoder = None
    if not rows.cached:
        encoder = build_encoder(version, config, family, model, torch.device("cpu"))
    return Source(
        rows=rows,
        reader=ItemReader(store),
        order=order_settings(config, "the same order in all datasets"),
        draws=Draws(seed=1, objective=OBJECTIVES["ddpm"]({}, Noise())),
        encoder=encoder,
    )


def epoch_batches(source: Source, epoch: int = 0):
    """All micro-batches of an epoch."""
    count = epoch_plan(source.rows.order, source.order, epoch).num_steps
    with closing(step_batches(source, epoch, 0)) as steps:
        return [batch for step in islice(steps, count) for batch in step.batches]


def latents_by_path(source: Source, epoch: int) -> dict[tuple[str, str, int], torch.Tensor]:
    """The latent of every row in an epoch, by what the row is."""
    names = source.rows.items.select(["path", "kind", "left"]).to_pylist()
    return {
        tuple(names[row].values()): latent
        for batch in epoch_batches(source, epoch)
        for row, latent in zip(batch.rows, batch.latents, strict=True)
    }


def test_the_first_epoch_is_what_would_have_been_cached_bit_for_bit(project):
    cached, fresh = make_source(project), make_source(project, FRESH)
    assert cached.rows.cached
    assert not fresh.rows.cached
    pairs = list(zip(epoch_batches(cached), epoch_batches(fresh), strict=True))
    assert len(pairs) > 4
    for stored, made in pairs:
        assert stored.rows == made.rows
        assert torch.equal(stored.latents, made.latents)
        assert torch.equal(stored.sizes, made.sizes)
        assert torch.equal(stored.noise, made.noise)


def test_augmented_samples_of_the_first_epoch_are_those_of_the_cache_too(project):
    cached, fresh = make_source(project, *AUGMENTED), make_source(project, FRESH, *AUGMENTED)
    for stored, made in zip(epoch_batches(cached), epoch_batches(fresh), strict=True):
        assert torch.equal(stored.latents, made.latents)


def test_later_epochs_are_the_variations_of_their_number(project):
    three = ("concepts.0.image_variations=3", "concepts.0.image.detail_crops.enabled=false")
    cached, fresh = (
        make_source(project, *AUGMENTED, *three),
        make_source(project, FRESH, *AUGMENTED),
    )
    stored = set()
    for epoch in range(3):
        stored |= {
            latent.numpy().tobytes() for b in epoch_batches(cached, epoch) for latent in b.latents
        }
    made = [latents_by_path(fresh, epoch) for epoch in range(3)]
    full = [key for key in made[0] if key[1] == "full"]
    assert {made[epoch][key].numpy().tobytes() for epoch in range(3) for key in full} == stored
    assert len(stored) == 9


def test_an_epoch_moves_full_views_within_their_bucket_and_tiles_never(project):
    source = make_source(project, FRESH)
    views = [
        [epoch_view(source.encoder, item, epoch) for item in source.rows.items.to_pylist()]
        for epoch in range(5)
    ]
    moved = set()
    for row, item in enumerate(source.rows.items.to_pylist()):
        bucket = (item["bucket_width"], item["bucket_height"])
        assert {view[row].view.target for view in views} == {bucket}
        places = {(view[row].view.rect, view[row].crop_left, view[row].crop_top) for view in views}
        if len(places) > 1:
            moved.add((Path(item["path"]).stem, item["kind"]))
    assert moved == {("wide", "full")}


def test_sizes_follow_the_crop_of_the_epoch(project):
    source = make_source(project, FRESH)
    items = source.rows.items.to_pylist()
    for batch in epoch_batches(source, 3):
        for row, sizes in zip(batch.rows, batch.sizes.tolist(), strict=True):
            placed = epoch_view(source.encoder, items[row], 3)
            assert sizes[2:4] == [placed.crop_top, placed.crop_left]
            assert sizes[4:] == [items[row]["bucket_height"], items[row]["bucket_width"]]


def test_validation_rows_are_the_same_in_every_epoch(project):
    with project.run_toml.open("a") as file:
        file.write('[[concepts]]\nname = "held out"\ntype = "validation"\npath = "photos"\n')
    overrides = (FRESH, *(setting.replace(".0.", ".1.") for setting in AUGMENTED))
    config, prepared = project.config(*overrides), project.prepare(*overrides)
    family = get_family("sd15")
    model = resolve_model(config.model.base, family)
    encoder = build_encoder(prepared.version, config, family, model, torch.device("cpu"))
    for item in prepared.rows.to_pylist():
        if item["split"] == "validation":
            first, later = (encode_rows(encoder, [item], epoch) for epoch in (0, 7))
            assert torch.equal(first.latents, later.latents)
            assert first.crop_offsets == later.crop_offsets


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_batch_of_images_gives_the_latents_of_each(project, batch_size):
    source = make_source(project, FRESH)
    items = [item for item in source.rows.items.to_pylist() if item["kind"] == "detail"][:7]
    alone = encode_rows(source.encoder, items, 0).latents
    many = encode_rows(replace(source.encoder, batch_size=batch_size), items, 0).latents
    torch.testing.assert_close(many, alone, atol=1e-5, rtol=1e-4)


def make_spec(project: Project, run_id: str, *overrides: str, **changes) -> TrainSpec:
    config = project.config(FRESH, *AUGMENTED, *TRAIN, *overrides)
    version = project.prepare(FRESH, *AUGMENTED).version
    return TrainSpec(
        config=config,
        store=config.store.url,
        dataset=version.name,
        version=version.number,
        run_id=run_id,
        workspace=project.folder / "runs" / run_id,
        **changes,
    )


def train(spec: TrainSpec) -> str:
    write_spec(spec)
    return train_rank(spec, Event())


# 2 photos have 2 full views and 24 tiles: with a batch of 8, step 4 is in the second epoch.
@pytest.mark.parametrize("overrides", [(), ("train.batch_size=8",)])
def test_stopping_and_going_on_equals_never_stopping(project, overrides):
    whole, parts = (make_spec(project, run_id, *overrides) for run_id in ("whole", "parts"))
    assert train(whole) == "done"
    assert train(replace(parts, stop_after_steps=2)) == "stopped"
    backup = newest_backup(parts.backups)
    assert read_facts(backup)["step"] == 2
    assert train(replace(parts, resume_from=backup)) == "done"
    assert_equal_backups(newest_backup(whole.backups), newest_backup(parts.backups))
    assert loss_history(whole.workspace) == loss_history(parts.workspace)


def test_a_file_that_vanished_ends_the_training_with_its_name(project):
    spec = make_spec(project, "run")
    victim = project.photos / "photo1.jpg"
    victim.unlink()
    assert train(spec) == "failed"
    status = read_status(spec.workspace)
    assert f"{victim} vanished" in status["error"]
    assert "latent_caching = false" in status["error"]
    assert status["resumable"] is False


@pytest.mark.parametrize("content", [b"other bytes", None])
def test_a_file_that_changed_ends_the_training_with_its_name(project, content):
    source = make_source(project, FRESH)
    victim = project.photos / "photo0.jpg"
    victim.write_bytes(content or (project.photos / "photo1.jpg").read_bytes())
    with pytest.raises(ValueError, match=f"{victim} changed.*tilewright prepare"):
        epoch_batches(source)


def test_an_image_that_is_now_too_large_is_named(project):
    source = make_source(project, FRESH)
    data = source.encoder.data.model_copy(update={"max_pixels": 100})
    small = replace(source, encoder=replace(source.encoder, data=data))
    with pytest.raises(ValueError, match=r"photos/\w+.jpg: .*data.max_pixels = 100"):
        epoch_batches(small)


def test_a_latent_that_is_not_finite_is_named(project):
    source = make_source(project, FRESH)

    def overflow(images):
        return [latent / 0 for latent in source.encoder.encode(images)]

    broken = replace(source, encoder=replace(source.encoder, encode=overflow))
    with pytest.raises(ValueError, match=r"latent of .*photos/\w+.jpg is not finite.*float32"):
        epoch_batches(broken)


def test_another_bucket_than_the_prepared_one_is_refused(project):
    source = make_source(project, FRESH)
    item = next(i for i in source.rows.items.to_pylist() if i["kind"] == "full")
    with pytest.raises(ValueError, match=r"prepared for bucket \(8, 8\).*prepare"):
        epoch_view(source.encoder, item | {"bucket_width": 8, "bucket_height": 8}, 0)
