from typing import Any

import pytest

from tasks.onetrainer.objective_rows import SCALERS
from tasks.onetrainer.train_rows import SCHEDULES
from tests.tasks.onetrainer.onetrainer_files import SD15_LORA, OneTrainer, Result


def imported(onetrainer: OneTrainer, **said: Any) -> Result:
    return onetrainer.imported({**SD15_LORA, **said})


@pytest.mark.parametrize(("theirs", "ours"), SCALERS.items())
def test_scalers_have_other_names(onetrainer: OneTrainer, theirs: str, ours: str) -> None:
    result = imported(onetrainer, learning_rate_scaler=theirs, loss_scaler=theirs)
    train = result.config.train
    assert (train.learning_rate_scaler, train.loss_scaler) == (ours, ours)
    assert train.learning_rate == 0.0003
    assert not {"learning_rate_scaler", "loss_scaler"} & result.left.keys()


def test_steps_are_optimizer_steps_here_and_batches_there(onetrainer: OneTrainer) -> None:
    result = imported(
        onetrainer,
        gradient_accumulation_steps=4,
        learning_rate_warmup_steps=200,
        backup_after=100,
        backup_after_unit="STEP",
        sample_after=2,
        sample_after_unit="EPOCH",
        rolling_backup=True,
        rolling_backup_count=5,
        unet={"stop_training_after": 400, "stop_training_after_unit": "STEP"},
    )
    train, denoiser = result.config.train, result.config.parts.denoiser
    assert train.schedule.warmup_steps == 50
    assert (train.backup.every, train.backup.unit, train.backup.keep) == (25, "step", 5)
    assert (train.sample.every, train.sample.unit) == (2, "epoch")
    assert denoiser.stop_after is not None
    assert (denoiser.stop_after.n, denoiser.stop_after.unit) == (100, "step")
    assert result.comment("warmup_steps").startswith("was 200 batches")
    assert not {"backup_after", "sample_after", "rolling_backup"} & result.left.keys()


@pytest.mark.parametrize(
    ("unit", "every", "ours"),
    [
        ("NEVER", 0, "step"),
        ("ALWAYS", 1, "step"),
        ("STEP", 10, "step"),
        ("EPOCH", 10, "epoch"),
        ("SECOND", 1, "minute"),
        ("MINUTE", 10, "minute"),
        ("HOUR", 600, "minute"),
    ],
)
def test_units_of_cadences(onetrainer: OneTrainer, unit: str, every: int, ours: str) -> None:
    result = imported(onetrainer, backup_after=10, backup_after_unit=unit)
    backup = result.config.train.backup
    assert (backup.every, backup.unit) == (every, ours)
    assert ("was 10" in result.comment("every")) is (unit in ("SECOND", "HOUR"))
    assert "backup_after" not in result.left


def test_a_unit_that_is_none_is_told(onetrainer: OneTrainer) -> None:
    left = imported(onetrainer, backup_after=10, backup_after_unit="FORTNIGHT").left
    assert "FORTNIGHT is no unit" in left["backup_after"]


def test_models_in_between(onetrainer: OneTrainer) -> None:
    said = {"save_every": 2, "save_every_unit": "EPOCH", "save_skip_first": 5}
    result = imported(onetrainer, **said)
    save = result.config.train.save
    # Saved after 2, 4, 6, ... epochs: the first two are before the fifth.
    assert (save.every, save.unit, save.skip_first) == (2, "epoch", 2)
    assert result.comment("skip_first") == "was 5 epochs; here it counts times"


@pytest.mark.parametrize(
    ("theirs", "steps", "fraction"), [(200, 200, 0.0), (0.1, 0, 0.1), (1, 0, 0.999), (0, 0, 0.0)]
)
def test_a_warmup_is_steps_or_a_share(
    onetrainer: OneTrainer, theirs: float, steps: int, fraction: float
) -> None:
    schedule = imported(onetrainer, learning_rate_warmup_steps=theirs).config.train.schedule
    assert (schedule.warmup_steps, schedule.warmup_fraction) == (steps, fraction)


@pytest.mark.parametrize("theirs", [name for name in SCHEDULES if name != "CUSTOM"])
def test_schedules(onetrainer: OneTrainer, theirs: str) -> None:
    said = {"learning_rate_scheduler": theirs, "learning_rate_min_factor": 0.1}
    result = imported(onetrainer, **said, learning_rate_cycles=3)
    schedule = result.config.train.schedule
    assert schedule.kind == SCHEDULES[theirs]
    assert schedule.min_factor == (0.0 if theirs in ("CONSTANT", "ADAFACTOR") else 0.1)
    assert schedule.cycles == (3.0 if "RESTARTS" in theirs else 1.0)
    assert not [key for key in result.left if key.startswith("learning_rate")]


def test_a_schedule_of_ones_own(onetrainer: OneTrainer) -> None:
    name = "torch.optim.lr_scheduler.OneCycleLR"
    params = [{"key": "max_lr", "value": "%LR%"}, {"key": "three_phase", "value": "True"}]
    said = {"learning_rate_scheduler": "CUSTOM", "scheduler_params": params}
    result = imported(onetrainer, **said, custom_learning_rate_scheduler=name)
    schedule = result.config.train.schedule
    assert schedule.function == "torch.optim.lr_scheduler:OneCycleLR"
    assert schedule.params == {"max_lr": "%LR%", "three_phase": True}
    left = imported(onetrainer, **said, custom_learning_rate_scheduler="Nowhere").left
    assert left["learning_rate_scheduler"].startswith("different: custom_learning_rate_scheduler")


@pytest.mark.parametrize(("theirs", "ours"), [("OFF", "off"), ("GPU", "device"), ("CPU", "cpu")])
def test_averaged_weights(onetrainer: OneTrainer, theirs: str, ours: str) -> None:
    said = {"ema": theirs, "ema_decay": 0.99, "ema_update_step_interval": 7}
    ema = imported(onetrainer, **said).config.train.ema
    assert ema.kind == ours
    assert (ema.decay, ema.update_every) == ((0.999, 5) if ours == "off" else (0.99, 7))


@pytest.mark.parametrize(
    ("said", "key", "value"),
    [
        ({"clip_grad_norm": None}, "clip_grad_norm", 0.0),
        ({"clip_grad_norm": 0.5}, "clip_grad_norm", 0.5),
        ({"learning_rate": "0.0002"}, "learning_rate", 0.0002),
        ({"train_dtype": "TFLOAT_32"}, "train_dtype", "float32"),
        ({"train_dtype": "TFLOAT_32"}, "tf32", True),
        ({"train_dtype": "FLOAT_32"}, "tf32", False),
        ({"attention_mechanism": "CUDNN"}, "attention", "cudnn"),
        ({"attention_mechanism": "SDP"}, "attention", "auto"),
        ({"compile": True}, "compile", True),
        ({"unet": {"weight_dtype": "FLOAT_8"}}, "base_weights", "float8"),
        ({"unet": {"weight_dtype": "INT_W8A8"}}, "base_weights", "int8"),
        ({"unet": {"weight_dtype": "NFLOAT_4"}}, "base_weights", "int8"),
        ({"unet": {"weight_dtype": "FLOAT_32"}}, "base_weights", "train_dtype"),
        ({"train_device": "cpu"}, "device", "cpu"),
        ({"train_device": "cuda"}, "device", "auto"),
        ({"multi_gpu": True, "device_indexes": "0, 2"}, "processes", 2),
        ({"unet": {"gradient_checkpointing": False}}, "gradient_checkpointing", False),
        ({"gradient_checkpointing": "CPU_OFFLOADED"}, "gradient_checkpointing", True),
        ({"text_encoder": {"dropout_probability": 0.1}}, "caption_dropout", 0.1),
    ],
)
def test_single_settings(
    onetrainer: OneTrainer, said: dict[str, Any], key: str, value: object
) -> None:
    assert getattr(imported(onetrainer, **said).config.train, key) == value


@pytest.mark.parametrize(
    "said",
    [
        {"peft_type": "OFT_2"},
        {"text_encoder_layer_skip": 1},
        {"vae.model_name": "other-vae"},
        {"unet.weight_dtype": "NFLOAT_4"},
        {"unet.weight_dtype": "GGUF"},
        {"unet.offload_fraction": 0.5},
        {"output_dtype": "NFLOAT_4"},
        {"frames": "49"},
        {"force_circular_padding": True},
        {"optimizer.fused_back_pass": True},
        {"optimizer.optimizer": "SINKSGD_ADV"},
        {"quantization.svd_dtype": "BFLOAT_16"},
    ],
)
def test_what_comes_later_is_told_and_never_dropped(
    onetrainer: OneTrainer, said: dict[str, Any]
) -> None:
    ((key, value),) = said.items()
    table, dot, inner = key.partition(".")
    result = imported(onetrainer, **({table: {inner: value}} if dot else said))
    assert result.left[key].startswith("not yet"), result.left
    assert f"{key} = " in result.text


def test_secrets_are_not_repeated(onetrainer: OneTrainer) -> None:
    result = imported(
        onetrainer,
        secrets={"huggingface_token": "hf_geheim"},
        cloud={"enabled": True, "api_key": "geheim", "host": "geheim.example"},
    )
    assert {"secrets", "cloud"} <= result.left.keys()
    assert "geheim" not in result.text
    assert "geheim" not in str(result.imported)


@pytest.mark.parametrize("key", ["huggingface_token", "hf_tokens", "my_secret", "some_api_key"])
def test_secrets_of_unknown_keys_are_not_repeated(onetrainer: OneTrainer, key: str) -> None:
    result = imported(onetrainer, **{key: "geheim"})
    assert key in result.left
    assert "geheim" not in result.text


def test_what_is_not_needed_is_told_only_where_it_was_changed(onetrainer: OneTrainer) -> None:
    assert "cache_dir" not in imported(onetrainer, cache_dir="workspace-cache/run").left
    left = imported(onetrainer, cache_dir="/fast/cache", debug_mode=True).left
    assert left["cache_dir"].startswith("not needed: all caches are in the store")
    assert "debug_mode" in left


def test_parts_that_the_model_does_not_have_are_silent(onetrainer: OneTrainer) -> None:
    elsewhere = {"transformer": {"weight_dtype": "NFLOAT_4"}, "text_encoder_2": {"train": True}}
    left = imported(onetrainer, **elsewhere).left
    assert not any(key.startswith(("transformer.", "text_encoder_2.")) for key in left)


def test_a_newer_layout_is_told(onetrainer: OneTrainer) -> None:
    left = imported(onetrainer, __version=99, brand_new=1).left
    assert "newer layout" in left["__version"]
    assert left["brand_new"].startswith("unknown")


def test_version_12_names(onetrainer: OneTrainer) -> None:
    result = imported(onetrainer, __version=12, image_caching=False, caching_threads=2)
    assert result.config.data.latent_caching is False
    assert "__version" not in result.left


def sample(prompt: str, **said: Any) -> dict[str, Any]:
    return {"enabled": True, "prompt": prompt, "negative_prompt": "", "seed": 42, **said}


def test_sample_prompts_share_their_settings(onetrainer: OneTrainer) -> None:
    samples = [
        sample("a boat", width=500, height=512, cfg_scale=5.0, diffusion_steps=30),
        sample("a pier", width=500, height=512, cfg_scale=5.0, diffusion_steps=20),
        sample("off", enabled=False),
    ]
    result = onetrainer.imported(SD15_LORA, None, samples)
    ours = result.config.train.sample
    assert ours.prompts == ("a boat", "a pier")
    assert (ours.width, ours.height, ours.guidance, ours.steps) == (496, 512, 5.0, 30)
    assert result.left["samples.diffusion_steps"].startswith("different: all prompts share")
    assert result.comment("steps") == "of the first prompt"
    assert result.comment("seed").endswith("each further prompt adds one")
    assert "samples.cfg_scale" not in result.left


def test_sample_settings_without_a_place(onetrainer: OneTrainer) -> None:
    one = sample("a boat", random_seed=True, noise_scheduler="EULER_A", glitter=1)
    left = onetrainer.imported(SD15_LORA, None, [one]).left
    assert left["samples.0.noise_scheduler"].startswith("different")
    assert left["samples.0.glitter"].startswith("unknown")


def test_prompts_inside_the_configuration_win(onetrainer: OneTrainer) -> None:
    onetrainer.write("training_samples/samples.json", [sample("file")])
    result = imported(onetrainer, samples=[sample("inside")])
    assert result.config.train.sample.prompts == ("inside",)
