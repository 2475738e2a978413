"""Holes on their way from the store to an inpainting model."""

from contextlib import closing
from dataclasses import replace

import pytest
import torch

from storage.store import open_store
from tasks.families.vae import scale_latents
from tasks.train.batches import step_batches
from tasks.train.setup import prepare_run
from tasks.train.step import predict_losses
from tests.mask_files import half_mask, write_mask
from tests.projects import make_project
from tests.tasks.train.synthetic import make_spec

FILES = "concepts.0.image.mask_source='file'"


@pytest.fixture
def run(tiny_models, tmp_path):
    """Two photos with their tiles; one of the photos has a mask."""
    model = tiny_models["sd15_inpaint"]
    project = make_project(tmp_path / "project", model, family="sd15_inpaint", num_photos=2)
    write_mask(project.photos / "photo0.jpg", half_mask())
    version = project.prepare(FILES).version
    spec = make_spec(tmp_path / "run", project.config(FILES), version)
    return prepare_run(spec, open_store(spec.store), torch.device("cpu"), rank=0)


def batches_of_an_epoch(run):
    with closing(step_batches(run.source, 0, 0)) as steps:
        for step in steps:
            yield from step.batches
            if step.ends_epoch:
                return


def told(run):
    """Name of the photo to the masks and what else its rows were told, over an epoch."""
    paths = run.source.rows.names["path"].to_pylist()
    found = {"photo0.jpg": [], "photo1.jpg": []}
    for batch in batches_of_an_epoch(run):
        assert batch.masks is None
        assert batch.holes.shape == (len(batch.rows), 5, *batch.latents.shape[2:])
        for row, holes in zip(batch.rows, batch.holes, strict=True):
            found[paths[row].rpartition("/")[2]].append(holes)
    return found


def test_rows_with_a_mask_are_told_it_and_all_others_paint_everything(run):
    found = told(run)
    assert any(0 < holes[0].mean() < 1 for holes in found["photo0.jpg"])
    by_shape = {}
    for holes in found["photo1.jpg"]:
        assert (holes[0] == 1).all()
        assert torch.equal(holes, by_shape.setdefault(holes.shape, holes))


def test_a_share_of_samples_paints_everything(run):
    mask = run.source.draws.mask.model_copy(update={"unmasked_probability": 1.0})
    run = replace(run, source=replace(run.source, draws=replace(run.source.draws, mask=mask)))
    grey = told(run)
    assert all((holes[0] == 1).all() for photo in grey.values() for holes in photo)
    mask = mask.model_copy(update={"unmasked_probability": 0.5})
    run = replace(run, source=replace(run.source, draws=replace(run.source.draws, mask=mask)))
    shares = [(holes[0] == 1).all().item() for holes in told(run)["photo0.jpg"]]
    assert {True, False} == set(shares)


def test_the_model_is_given_scaled_latents_of_what_is_around_the_hole(run):
    training, batch = run.training, next(batches_of_an_epoch(run))
    given = []
    hook = training.forward.denoiser.register_forward_pre_hook(
        lambda module, args: given.append(args[0])
    )
    predict_losses(training, batch)
    hook.remove()
    noisy = training.objective.corrupt(
        scale_latents(training.latent_facts, batch.latents), batch.noise, batch.timesteps
    )
    masked = scale_latents(training.latent_facts, batch.holes[:, 1:])
    assert torch.equal(given[0], torch.cat([noisy, batch.holes[:, :1], masked], dim=1))


def test_a_batch_in_pieces_costs_what_the_whole_does(run):
    training = run.training
    for batch in batches_of_an_epoch(run):
        whole = predict_losses(training, batch)
        pieces = torch.cat([predict_losses(training, piece) for piece in batch.split(2)])
        torch.testing.assert_close(pieces, whole)
