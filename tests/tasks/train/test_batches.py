import dataclasses
import threading
import time
from contextlib import closing
from itertools import islice

import pyarrow as pa
import pytest
import torch

from storage.reading import ItemReader
from storage.store import Store
from tasks.config.objectives import Noise
from tasks.epochs.entries import OrderSettings
from tasks.train.assemble import Draws, Source
from tasks.train.batches import read_ahead, step_batches
from tasks.train.objectives import OBJECTIVES
from tasks.train.rows import _sizes, load_rows
from tests.tasks.train.synthetic import make_dataset

BUCKETS = ((64, 64),) * 5 + ((64, 96),) * 3


def make_source(store: Store, version, *, step_size=2, caption_dropout=0.0, **changes) -> Source:
    rows = load_rows(store, version)
    order = OrderSettings(
        content_digest=rows.content_digest, seed=1, batch_size=2, step_size=step_size
    )
    objective = OBJECTIVES["ddpm"]({"prediction_type": "epsilon"}, Noise())
    draws = Draws(seed=1, objective=objective, caption_dropout=caption_dropout)
    return Source(rows=rows, reader=ItemReader(store), order=order, draws=draws, **changes)


def take(source: Source, count: int, epoch: int = 0, step: int = 0):
    with source.reader, closing(step_batches(source, epoch, step)) as steps:
        return list(islice(steps, count))


def test_batches_have_the_shapes_of_one_bucket_and_the_values_of_their_rows(local_store):
    version = make_dataset(local_store, BUCKETS)
    source = make_source(local_store, version)
    for step in take(source, 4):
        for batch in step.batches:
            size = {source.rows.buckets[source.rows.order.bucket[row]] for row in batch.rows}
            shape = {"64x64": (2, 4, 8, 8), "64x96": (2, 4, 12, 8)}[size.pop()]
            assert batch.latents.shape == batch.noise.shape == shape
            assert batch.texts["text_encoder_1"]["hidden"].shape == (2, 77, 32)
            assert batch.sizes.tolist()[0][:4] == [shape[2] * 8, shape[3] * 8, 0, 0]
            assert batch.timesteps.dtype == torch.int64


def test_latents_and_texts_are_those_of_the_row(local_store):
    version = make_dataset(local_store)
    source = make_source(local_store, version)
    from storage.reading import ItemRef
    from storage.versions import read_rows

    table = read_rows(local_store, version).to_pylist()
    with ItemReader(local_store) as reader:
        for step in take(source, 2):
            for batch in step.batches:
                for place, row in enumerate(batch.rows):
                    facts = table[row]
                    names = ("stage", "shard", "offset", "nbytes", "layout", "xxh3")
                    ref = ItemRef(*(facts[f"latent_{name}"] for name in names))
                    assert torch.equal(reader.read_many([ref])[0]["latent"], batch.latents[place])
                    texts = [ItemRef(*(t[name] for name in names)) for t in facts["texts"]]
                    hidden = batch.texts["text_encoder_1"]["hidden"][place]
                    matches = [torch.equal(t["hidden"], hidden) for t in reader.read_many(texts)]
                    assert sum(matches) == 1


def test_going_on_in_the_middle_gives_the_same_batches(local_store):
    version = make_dataset(local_store, BUCKETS)
    whole = take(make_source(local_store, version), 6)
    place = whole[3]
    rest = take(make_source(local_store, version), 3, place.epoch, place.step_in_epoch)
    for before, after in zip(whole[3:], rest, strict=True):
        assert before.ends_epoch == after.ends_epoch
        for a, b in zip(before.batches, after.batches, strict=True):
            assert (a.rows, a.epoch, a.position) == (b.rows, b.epoch, b.position)
            assert torch.equal(a.latents, b.latents)
            assert torch.equal(a.noise, b.noise)
            assert torch.equal(a.timesteps, b.timesteps)


def test_ranks_share_the_micro_batches_of_a_step(local_store):
    version = make_dataset(local_store, BUCKETS)
    alone = take(make_source(local_store, version), 4)
    ranks = [take(make_source(local_store, version, rank=r, world=2), 4) for r in range(2)]
    for step, first, second in zip(alone, *ranks, strict=True):
        positions = [batch.position for batch in step.batches]
        assert [b.position for b in (*first.batches, *second.batches)] == positions


def test_dropout_trains_the_empty_prompt(local_store):
    version = make_dataset(local_store)
    source = make_source(local_store, version, caption_dropout=1.0)
    texts = [b.texts["text_encoder_1"]["hidden"] for s in take(source, 2) for b in s.batches]
    assert all(torch.equal(text[0], texts[0][0]) for text in texts)


def test_every_prompt_of_a_row_is_drawn_now_and_then(local_store):
    version = make_dataset(local_store, ((64, 64),) * 2)
    source = make_source(local_store, version, step_size=1)
    drawn = {}
    for step in take(source, 20):
        for batch in step.batches:
            for row, text in zip(batch.rows, batch.texts["text_encoder_1"]["hidden"], strict=True):
                drawn.setdefault(row, set()).add(text.sum().item())
    assert [len(values) for values in drawn.values()] == [2, 2]


def test_validation_rows_do_not_train(local_store):
    split = ["train"] * 4 + ["validation"] * 4
    version = make_dataset(local_store, split=split)
    assert len(load_rows(local_store, version).order.bucket) == 4


def test_a_dataset_without_training_rows_is_refused(local_store):
    version = make_dataset(local_store, split=["validation"] * 8)
    with pytest.raises(ValueError, match="synthetic@1 has no training rows"):
        load_rows(local_store, version)


def test_data_without_a_whole_step_are_refused(local_store):
    version = make_dataset(local_store, ((64, 64),), repeats=[0.0])
    with pytest.raises(ValueError, match=r"no epoch has a complete optimizer step.*repeats"):
        take(make_source(local_store, version), 1)


def test_an_empty_epoch_now_and_then_is_skipped(local_store):
    version = make_dataset(local_store, ((64, 64),), repeats=[0.5])
    epochs = [step.epoch for step in take(make_source(local_store, version), 20)]
    assert epochs == sorted(set(epochs))
    assert 25 < epochs[-1] < 60


def test_reading_ahead_is_bounded_ordered_and_ends_its_threads():
    running = []

    def job(number):
        return lambda: running.append(number) or number

    before = threading.active_count()
    with closing(read_ahead((job(n) for n in range(100)), depth=3)) as results:
        assert list(islice(results, 4)) == [0, 1, 2, 3]
        time.sleep(0.05)
        assert len(running) <= 8
    assert threading.active_count() == before


def test_reading_ahead_raises_what_a_job_raised():
    def fail():
        raise OSError("disk on fire")

    with (
        closing(read_ahead(iter([lambda: 1, fail, lambda: 2]), depth=2)) as results,
        pytest.raises(OSError, match="disk on fire"),
    ):
        list(results)


def test_a_batch_moves_in_float32(local_store):
    batch = take(make_source(local_store, make_dataset(local_store)), 1)[0].batches[0]
    half = dataclasses.replace(batch, latents=batch.latents.bfloat16())
    assert half.to(torch.device("cpu")).latents.dtype == torch.float32


def test_a_tile_is_a_crop_of_its_resized_source() -> None:
    sizes = {"original_height": [3000] * 2, "original_width": [4000] * 2}
    sizes |= {"resized_height": [448, 1024], "resized_width": [597, 1365]}
    sizes |= {"crop_top": [0, 512], "crop_left": [10, 427]}
    sizes |= {"bucket_height": [448, 512], "bucket_width": [576, 512]}
    table = pa.table(sizes | {"kind": ["full", "detail"]})
    assert _sizes(table).tolist() == [
        [3000, 4000, 0, 10, 448, 576],
        [1024, 1365, 512, 427, 512, 512],
    ]
