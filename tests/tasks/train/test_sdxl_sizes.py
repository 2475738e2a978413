"""SDXL is told the true sizes of what it trains on, from the photo to the call of its UNet."""

from collections import defaultdict
from threading import Event

import torch

from storage.versions import read_rows
from tasks.train.batches import step_batches
from tasks.train.setup import prepare_run
from tasks.train.step import predict_losses
from tests.projects import make_project
from tests.tasks.train.synthetic import make_spec


def test_full_frames_and_tiles_have_original_size_crop_and_target(tiny_models, tmp_path):
    from storage.store import open_store

    project = make_project(tmp_path / "p", tiny_models["sdxl"], family="sdxl", num_photos=0)
    project.add_photo("wide", 1, "a boat", size=(640, 320))
    config, version = project.config(), project.prepare().version
    spec = make_spec(tmp_path / "run", config, version)
    store = open_store(config.store.url)
    run = prepare_run(spec, store, torch.device("cpu"), rank=0)
    told = defaultdict(list)

    def listen(module, args, kwargs):
        told["ids"] += kwargs["added_cond_kwargs"]["time_ids"].tolist()

    run.training.denoiser.register_forward_pre_hook(listen, with_kwargs=True)
    rows = read_rows(store, version).to_pylist()
    steps = step_batches(run.source, 0, 0)
    found = {}
    while len(found) < len(rows):
        for batch in next(steps).batches:
            told.clear()
            with torch.no_grad():
                predict_losses(run.training, batch)
            found |= dict(zip(batch.rows, told["ids"], strict=True))
    steps.close()
    kinds = set()
    for number, row in enumerate(rows):
        target = [row["bucket_height"], row["bucket_width"]]
        crop = [row["crop_top"], row["crop_left"]]
        # A tile is to the model a crop of a photo as large as its resized source.
        size = "original" if row["kind"] == "full" else "resized"
        expected = [row[f"{size}_height"], row[f"{size}_width"], *crop, *target]
        assert found[number] == expected
        kinds.add(row["kind"])
        if row["kind"] == "full":
            assert expected[:2] == [320, 640]
        else:
            assert expected[:2] == [128, 256]
    assert kinds == {"full", "detail"}
    assert not Event().is_set()
