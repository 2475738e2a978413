from typing import Any

import pytest

from tests.tasks.onetrainer.onetrainer_files import SD15_LORA, OneTrainer, Result


def imported(onetrainer: OneTrainer, **said: Any) -> Result:
    return onetrainer.imported({**SD15_LORA, **said})


@pytest.mark.parametrize(
    ("scaler", "rate"),
    [
        ("NONE", 2e-4),
        ("BATCH", 4e-4),
        ("GRADIENT_ACCUMULATION", 6e-4),
        ("BOTH", 12e-4),
        ("GLOBAL_BOTH", 12e-4),
    ],
)
def test_the_learning_rate_scaler_is_calculated(
    onetrainer: OneTrainer, scaler: str, rate: float
) -> None:
    said = {"learning_rate": 2e-4, "batch_size": 4, "gradient_accumulation_steps": 9}
    result = imported(onetrainer, **said, learning_rate_scaler=scaler)
    assert result.config.train.learning_rate == pytest.approx(rate)
    assert ("learning_rate_scaler" in result.comment("learning_rate")) is (scaler != "NONE")
    assert ("learning_rate_scaler" in result.left) is scaler.startswith("GLOBAL")


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
    )
    train = result.config.train
    assert train.schedule.warmup_steps == 50
    assert (train.backup.every, train.backup.unit, train.backup.keep) == (25, "step", 5)
    assert (train.sample.every, train.sample.unit) == (2, "epoch")
    assert result.comment("warmup_steps").startswith("was 200 batches")
    assert not {"backup_after", "sample_after", "rolling_backup"} & result.left.keys()


@pytest.mark.parametrize(
    ("unit", "every"), [("NEVER", 0), ("ALWAYS", 1), ("MINUTE", 500), ("HOUR", 500)]
)
def test_units_of_time_keep_our_cadence_and_are_told(
    onetrainer: OneTrainer, unit: str, every: int
) -> None:
    result = imported(onetrainer, backup_after=10, backup_after_unit=unit)
    assert result.config.train.backup.every == every
    assert ("backup_after" in result.left) is (every == 500)


def test_a_share_of_all_steps_cannot_be_known_yet(onetrainer: OneTrainer) -> None:
    result = imported(onetrainer, learning_rate_warmup_steps=0.1)
    assert result.config.train.schedule.warmup_steps == 0
    assert "put their number here" in result.comment("warmup_steps")
    assert result.left["learning_rate_warmup_steps"].startswith("different")


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        ("CONSTANT", "constant", False),
        ("LINEAR", "linear", False),
        ("COSINE", "cosine", False),
        ("COSINE_WITH_RESTARTS", "cosine", True),
        ("REX", "constant", True),
    ],
)
def test_schedules(onetrainer: OneTrainer, theirs: str, ours: str, told: bool) -> None:
    said = {"learning_rate_scheduler": theirs, "learning_rate_min_factor": 0.1}
    result = imported(onetrainer, **said)
    assert result.config.train.schedule.kind == ours
    assert result.config.train.schedule.min_factor == 0.1
    assert ("learning_rate_scheduler" in result.left) is told


def test_adamw_comes_over_and_its_other_options_are_told(onetrainer: OneTrainer) -> None:
    optimizer = {
        "optimizer": "ADAMW",
        "beta1": 0.8,
        "beta2": 0.95,
        "eps": 1e-6,
        "weight_decay": 0.1,
        "stochastic_rounding": False,
        "fused_back_pass": True,
        "d_coef": 2.0,
        "momentum": None,
    }
    result = imported(onetrainer, optimizer=optimizer)
    ours = result.config.train.optimizer
    assert (ours.betas, ours.eps, ours.weight_decay) == ((0.8, 0.95), 1e-6, 0.1)
    told = {key for key in result.left if key.startswith("optimizer.")}
    assert told == {"optimizer.fused_back_pass"}  # AdamW has no d_coef in OneTrainer either


@pytest.mark.parametrize(("decay", "told"), [(0.0, False), (None, False), (0.1, True)])
def test_adam_is_adamw_without_decay(
    onetrainer: OneTrainer, decay: float | None, told: bool
) -> None:
    result = imported(onetrainer, optimizer={"optimizer": "ADAM", "weight_decay": decay})
    assert result.config.train.optimizer.weight_decay == (decay or 0.0)
    assert ("optimizer.optimizer" in result.left) is told


def test_a_learning_rate_of_another_optimizer_is_not_given_to_adamw(
    onetrainer: OneTrainer,
) -> None:
    said = {"optimizer": {"optimizer": "PRODIGY", "d_coef": 2.0}, "learning_rate": 1.0}
    result = imported(onetrainer, **said)
    assert result.config.train.learning_rate == 1e-4
    assert "meant for PRODIGY" in result.left["learning_rate"]
    assert result.left["optimizer.optimizer"].startswith("not yet")
    assert result.left["optimizer.d_coef"].startswith("not yet")


@pytest.mark.parametrize(
    ("said", "key", "value"),
    [
        ({"clip_grad_norm": None}, "clip_grad_norm", 0.0),
        ({"clip_grad_norm": 0.5}, "clip_grad_norm", 0.5),
        ({"learning_rate": "0.0002"}, "learning_rate", 0.0002),
        ({"train_dtype": "TFLOAT_32"}, "train_dtype", "float32"),
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
        {"ema": "GPU"},
        {"offset_noise_weight": 0.1},
        {"timestep_distribution": "LOGIT_NORMAL"},
        {"loss_weight_fn": "MIN_SNR_GAMMA"},
        {"mae_strength": 0.5},
        {"dropout_probability": 0.1},
        {"lora_decompose": True},
        {"peft_type": "LOKR"},
        {"text_encoder_layer_skip": 1},
        {"vae.model_name": "other-vae"},
        {"unet.weight_dtype": "NFLOAT_4"},
        {"unet.offload_fraction": 0.5},
        {"additional_embeddings": [{"placeholder": "<a>"}]},
        {"save_every": 2},
        {"validation": True},
        {"compile": True},
        {"force_circular_padding": True},
        {"layer_filter_preset": "attn-only"},
        {"quantization.svd_dtype": "BFLOAT_16"},
        {"lora_model_name": "models/older.safetensors"},
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
    assert left["samples.0.noise_scheduler"].startswith("not yet")
    assert left["samples.0.glitter"].startswith("unknown")


def test_prompts_inside_the_configuration_win(onetrainer: OneTrainer) -> None:
    onetrainer.write("training_samples/samples.json", [sample("file")])
    result = imported(onetrainer, samples=[sample("inside")])
    assert result.config.train.sample.prompts == ("inside",)
