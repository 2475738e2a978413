"""Training of a tiny model in this process: exact resume, endings, failures, outputs."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import load_file

from tasks.train import step
from tasks.train.backup import list_backups, newest_backup, read_facts
from tasks.train.events import EventReader, loss_history, read_status
from tasks.train.runner import with_smaller_pieces
from tests.tasks.train.comparing import assert_equal_backups
from tests.tasks.train.synthetic import make_dataset


def events(spec, name=None):
    found = EventReader(spec.workspace / "events.jsonl").read()
    return [event for event in found if name in (None, event["event"])]


EVERYTHING = {
    "max_steps": 6,
    "gradient_accumulation_steps": 2,
    "ema": {"kind": "cpu", "update_every": 2},
    "schedule": {"kind": "cosine", "warmup_steps": 2},
    "caption_dropout": 0.3,
    "loss": {"huber": 0.5, "weighting": "min_snr_gamma"},
    "noise": {"offset": 0.1, "perturbation": 0.1},
    "timesteps": {"distribution": "logit_normal"},
    "backup": {"every": 100},
}


@pytest.mark.parametrize(
    "settings",
    [
        # An epoch has 4 micro-batches of 2 rows: step 2 is in its middle, step 4 its end.
        {},
        {"gradient_accumulation_steps": 2, "max_steps": 6},
        {"method": {"kind": "full"}, "batch_size": 3, "max_steps": 4},
        {"train_dtype": "bfloat16", "gradient_checkpointing": True, "caption_dropout": 0.5},
        EVERYTHING | {"method": {"kind": "full"}},
        EVERYTHING | {"method": {"kind": "lora", "rank": 2, "dora": True, "dropout": 0.2}},
        EVERYTHING | {"method": {"kind": "embedding"}, "embeddings": [{"placeholder": "prompt"}]},
    ],
    ids=["lora", "accumulation", "full", "bfloat16", "full-all", "dora-all", "embedding-all"],
)
def test_stopping_and_going_on_equals_never_stopping(bench, settings):
    if settings.get("method"):
        settings = settings | {"backup": {"every": 100}}
    whole, parts = bench.spec("whole", **settings), bench.spec("parts", **settings)
    half = whole.config.train.max_steps // 2 - (whole.config.train.max_steps == 6)
    whole, parts = (with_output(spec) for spec in (whole, parts))
    assert bench.train(whole) == "done"
    assert bench.train(replace(parts, stop_after_steps=half)) == "stopped"
    backup = newest_backup(parts.backups)
    assert read_facts(backup)["step"] == half
    assert bench.train(replace(parts, resume_from=backup)) == "done"

    assert_equal_backups(newest_backup(whole.backups), newest_backup(parts.backups))
    assert loss_history(whole.workspace) == loss_history(parts.workspace)
    rates = [[e["learning_rates"] for e in events(spec, "step")] for spec in (whole, parts)]
    assert rates[0] == rates[1]


def with_output(spec):
    kind = spec.config.train.method.kind
    name = {"lora": "kohya_lora", "full": "diffusers", "embedding": "embedding"}[kind]
    model = spec.config.model.model_copy(update={"output_format": name, "output": f"out-{kind}"})
    return replace(spec, config=spec.config.model_copy(update={"model": model}))


def test_training_learns(bench):
    # The same row, noise and timestep distribution again and again: the loss must fall.
    bench.version = make_dataset(bench.store, ((64, 64),), repeats=[8.0])
    spec = bench.spec(
        max_steps=40,
        method={"kind": "lora", "rank": 16, "alpha": 16},
        learning_rate=2e-2,
        schedule={"kind": "constant"},
        backup={"every": 0},
    )
    assert bench.train(spec) == "done"
    losses = list(loss_history(spec.workspace).values())
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert not list_backups(spec.backups)


def test_samples_change_nothing_and_are_drawn_at_their_cadence_and_at_the_end(bench):
    sample = {"every": 2, "prompts": ["a", "b"], "steps": 1, "width": 64, "height": 64}
    plain, sampled = bench.spec("plain"), bench.spec("sampled", sample=sample)
    assert bench.train(plain) == bench.train(sampled) == "done"
    assert loss_history(plain.workspace) == loss_history(sampled.workspace)
    drawn = [(event["step"], len(event["paths"])) for event in events(sampled, "sample")]
    assert drawn == [(2, 2), (4, 2)]
    assert len(list(sampled.workspace.glob("samples/step-00000004/*.png"))) == 2


def test_events_status_and_tensorboard_tell_one_story(bench):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    spec = bench.spec()
    bench.train(replace(spec, stop_after_steps=3))
    # As after a crash: go on from the backup before the newest, and train step 3 again.
    bench.train(replace(spec, resume_from=spec.backups / "00000002"))

    status = read_status(spec.workspace)
    assert (status["state"], status["step"], status["epoch"]) == ("done", 4, 1)
    assert [event["step"] for event in events(spec, "step")] == [1, 2, 3, 3, 4]
    assert list(loss_history(spec.workspace)) == [1, 2, 3, 4]
    board = EventAccumulator(str(spec.workspace / "tensorboard")).Reload()
    scalars = board.Scalars("train/loss")
    assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
    assert {"train/loss_smoothed", "learning_rate/denoiser", "speed/data_wait_share"} <= set(
        board.Tags()["scalars"]
    )
    metadata = events(spec, "done")[-1]["outputs"]
    assert Path(metadata[0]).is_file()


def test_an_epoch_says_what_it_repeats(bench):
    bench.version = make_dataset(bench.store, ((64, 64),) * 3 + ((64, 96),) * 2)
    spec = bench.spec(epochs=1, max_steps=None, gradient_accumulation_steps=2)
    assert bench.train(spec) == "done"
    (epoch,) = events(spec, "epoch")
    assert (epoch["steps"], epoch["entries"], epoch["dropped"]) == (2, 5, {})
    assert sum(epoch["repeated"].values()) == 3


def test_being_asked_to_stop_writes_a_backup_at_the_step_end(bench):
    stop = Event()
    stop.set()
    spec = bench.spec()
    assert bench.train(spec, stop) == "interrupted"
    assert [path.name for path in list_backups(spec.backups)] == ["00000001"]
    assert read_status(spec.workspace)["state"] == "interrupted"


def test_a_loss_that_is_not_finite_names_step_and_rows(bench):
    bench.version = make_dataset(bench.store, poison=[3])
    spec = bench.spec()
    assert bench.train(spec) == "failed"
    status = read_status(spec.workspace)
    assert status["resumable"] is False
    assert f"step {status['step'] + 1}: the loss is not finite" in status["error"]
    assert "(photos/03.jpg)" in status["error"]
    assert status["error"].count(".jpg") == 1


def test_a_step_that_is_not_finite_may_be_left_out(bench):
    bench.version = make_dataset(bench.store, poison=[3])
    spec = bench.spec(non_finite="skip", max_steps=8, ema={"kind": "cpu"})
    assert bench.train(spec) == "done"
    (first, second) = events(spec, "message")  # one of four steps of each of two epochs
    assert "was left out: the loss is not finite; rows:" in first["text"]
    assert "(photos/03.jpg)" in second["text"]
    losses = [event["loss"] for event in events(spec, "step")]
    assert len(losses) == 8
    assert losses.count(None) == 2
    assert len(loss_history(spec.workspace)) == 6


def test_too_many_steps_that_are_not_finite_end_the_run(bench):
    bench.version = make_dataset(bench.store, poison=range(8))
    spec = bench.spec(non_finite="skip", max_steps=40)
    assert bench.train(spec) == "failed"
    assert len(events(spec, "message")) == 10
    assert "step 11: the loss is not finite" in read_status(spec.workspace)["error"]


def test_a_full_disk_keeps_the_backup_of_before(bench, monkeypatch):
    from tasks.train import backup

    real, calls = backup._save_optimizer, []

    def full(folder, training):
        calls.append(folder)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(folder, training)

    monkeypatch.setattr(backup, "_save_optimizer", full)
    spec = bench.spec(max_steps=3, backup={"every": 1, "keep": 1})
    assert bench.train(spec) == "done"
    assert "no backup at step 2: [Errno 28] No space left" in events(spec, "message")[0]["text"]
    assert [path.name for path in spec.backups.iterdir()] == ["00000003"]
    assert [event["step"] for event in events(spec, "backup")] == [1, 3]


@pytest.mark.parametrize("allowed", [False, True])
def test_when_memory_runs_out_the_next_start_takes_smaller_pieces(bench, monkeypatch, allowed):
    real = step.predict_losses

    def hungry(training, batch, module=None):
        if len(batch.rows) > 1:
            torch.empty(2**60)  # more than any machine has: torch's own error
        return real(training, batch, module)

    monkeypatch.setattr(step, "predict_losses", hungry)
    spec = bench.spec(batch_size=2, halve_batch_on_oom=allowed)
    assert bench.train(spec) == "failed"
    status = read_status(spec.workspace)
    assert "memory ran out with 2 samples at a time" in status["error"]
    assert status["resumable"] is allowed
    again = with_smaller_pieces(spec)
    assert again.split == (2 if allowed else 1)
    if allowed:
        assert bench.train(again) == "done"
        assert read_status(spec.workspace)["split"] == 2
        assert with_smaller_pieces(spec).split == 2


def test_models_in_between_are_saved_at_their_cadence(bench):
    save = {"every": 1, "skip_first": 1, "keep": 2}
    spec = bench.spec(max_steps=5, save=save)
    assert bench.train(spec) == "done"
    assert [event["step"] for event in events(spec, "save")] == [2, 3, 4]
    kept = sorted(path.name for path in (spec.workspace / "saves").iterdir())
    assert kept == ["step-00000003", "step-00000004"]
    assert all((spec.workspace / "saves" / name).iterdir() for name in kept)


@pytest.mark.parametrize("output_format", ["kohya_lora", "diffusers_lora"])
def test_an_adapter_goes_on_from_a_file(bench, output_format):
    def spec_in(run_id, **method):
        spec = bench.spec(run_id, method={"kind": "lora", "rank": 2, "alpha": 4.0} | method)
        model = spec.config.model.model_copy(update={"output_format": output_format})
        return replace(spec, config=spec.config.model_copy(update={"model": model}))

    first = spec_in("first")
    assert bench.train(first) == "done"
    (file,) = read_status(first.workspace)["outputs"]
    trained = load_file(newest_backup(first.backups) / "denoiser.safetensors")
    for run_id, alpha in (("same", 4.0), ("other", 8.0)):
        spec = replace(spec_in(run_id, initial=file, alpha=alpha), stop_after_steps=1)
        spec = replace(spec, config=with_rate(spec.config, 1e-9))
        assert bench.train(spec) == "stopped"
        gone_on = load_file(newest_backup(spec.backups) / "denoiser.safetensors")
        for name, tensor in trained.items():
            if name.endswith("lora_A.weight"):
                up = name.replace("lora_A", "lora_B")
                before = trained[up].flatten(1) @ tensor.flatten(1) * 4
                after = gone_on[up].flatten(1) @ gone_on[name].flatten(1) * alpha
                torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-4)
    wrong = spec_in("wrong", initial=file, rank=3)
    assert bench.train(wrong) == "failed"
    assert "is of rank 2, and train.method.rank is 3" in read_status(wrong.workspace)["error"]
    other = bench.spec("other-kind", method={"kind": "loha", "rank": 2, "initial": file})
    assert bench.train(other) == "failed"
    assert "is a lora, and this training is of a loha" in read_status(other.workspace)["error"]


def with_rate(config, rate):
    return config.model_copy(
        update={"train": config.train.model_copy(update={"learning_rate": rate})}
    )


def test_a_backup_of_other_settings_is_refused_where_going_on_cannot_be_exact(bench):
    spec = bench.spec()
    bench.train(replace(spec, stop_after_steps=2))
    backup = spec.backups / "00000002"
    cases = {
        "method.rank was 2 and is now 4": {"method": {"kind": "lora", "rank": 4, "alpha": 2}},
        "batch_size was 2 and is now 1": {"batch_size": 1},
        "method.kind was 'lora' and is now 'full'": {"method": {"kind": "full"}},
    }
    for text, change in cases.items():
        assert bench.train(replace(bench.spec(**change), resume_from=backup)) == "failed"
        assert text in read_status(spec.workspace)["error"]
    bench.version = make_dataset(bench.store, loss_weight=[2.0] * 8)
    assert bench.train(replace(bench.spec(), resume_from=backup)) == "failed"
    assert "dataset_digest was" in read_status(spec.workspace)["error"]
    assert "--new-data" in read_status(spec.workspace)["error"]


def test_a_run_goes_on_with_other_data_when_asked_to(bench):
    spec = bench.spec(max_steps=12)
    assert bench.train(replace(spec, stop_after_steps=6)) == "stopped"
    backup = newest_backup(spec.backups)
    assert (read_facts(backup)["epoch"], read_facts(backup)["step_in_epoch"]) == (1, 2)
    bench.version = make_dataset(bench.store, ((64, 64),) * 6, loss_weight=[2.0] * 6)
    other = replace(bench.spec(max_steps=12), resume_from=backup, new_data=True)
    assert bench.train(other) == "done"
    assert (
        "with synthetic@2 in place of synthetic@1: epoch 1 starts anew"
        in (events(spec, "message")[0]["text"])
    )
    epochs = [event["epoch"] for event in events(spec, "step")]
    assert epochs == [0] * 4 + [1] * 2 + [1] * 3 + [2] * 3


def test_a_changed_learning_rate_is_allowed_and_told(bench):
    spec = bench.spec()
    bench.train(replace(spec, stop_after_steps=2))
    backup = spec.backups / "00000002"
    changed = replace(bench.spec(learning_rate=1e-3), resume_from=backup)
    assert bench.train(changed) == "done"
    assert "settings differ" in events(spec, "message")[0]["text"]


def test_loss_weights_scale_the_loss(bench):
    bench.version = make_dataset(bench.store, loss_weight=[0.0] * 8)
    spec = bench.spec(max_steps=1)
    bench.train(spec)
    assert list(loss_history(spec.workspace).values()) == [0.0]


def test_the_finished_model_says_where_it_came_from(bench):
    from safetensors import safe_open

    spec = bench.spec(max_steps=1)
    bench.train(spec)
    (path,) = read_status(spec.workspace)["outputs"]
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["tilewright.dataset"] == "synthetic@1"
    assert metadata["tilewright.dataset_digest"] == bench.version.content_digest
    assert metadata["ss_steps"] == "1"
    assert json.loads((spec.workspace / "config.json").read_text())["train"]["max_steps"] == 1
