"""Masks on their way from a file to the loss."""

from contextlib import closing
from dataclasses import replace

import torch

from storage.store import open_store
from tasks.train.batches import step_batches
from tasks.train.setup import prepare_run
from tests.mask_files import half_mask, write_mask
from tests.projects import make_project
from tests.tasks.train.synthetic import make_spec

MASKED = ("concepts.0.image.mask_source='file'", "train.mask.enabled=true")


def batches_of_an_epoch(run):
    with closing(step_batches(run.source, 0, 0)) as steps:
        for step in steps:
            yield from step.batches
            if step.ends_epoch:
                return


def test_masks_are_read_where_there_are_some_and_left_out_as_often_as_asked(tiny_models, tmp_path):
    project = make_project(tmp_path / "p", tiny_models["sd15"], num_photos=2)
    write_mask(project.photos / "photo0.jpg", half_mask())
    version = project.prepare(*MASKED).version
    spec = make_spec(tmp_path / "run", project.config(*MASKED), version)
    run = prepare_run(spec, open_store(spec.store), torch.device("cpu"), rank=0)
    paths = run.source.rows.names["path"].to_pylist()
    seen = {"photo0.jpg": [], "photo1.jpg": []}
    for batch in batches_of_an_epoch(run):
        assert batch.masks.shape == (len(batch.rows), 1, *batch.latents.shape[2:])
        for row, mask in zip(batch.rows, batch.masks, strict=True):
            seen[paths[row].rpartition("/")[2]].append(mask)
    assert all((mask == 1).all() for mask in seen["photo1.jpg"])
    assert any((mask < 1).any() for mask in seen["photo0.jpg"])
    never = run.source.draws.mask.model_copy(update={"unmasked_probability": 1.0})
    run = replace(run, source=replace(run.source, draws=replace(run.source.draws, mask=never)))
    assert all((batch.masks == 1).all() for batch in batches_of_an_epoch(run))
    off = never.model_copy(update={"enabled": False})
    run = replace(run, source=replace(run.source, draws=replace(run.source.draws, mask=off)))
    assert all(batch.masks is None for batch in batches_of_an_epoch(run))
