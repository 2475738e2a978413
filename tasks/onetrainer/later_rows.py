"""Settings of the run without a place in run.toml: what comes later, and what is not needed."""

from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.model_rows import is_lora
from tasks.onetrainer.rows import Answer, Left, Row, Table, View, later, only, unlike, unneeded

_LOSS = "the loss is the mean squared error"
_NOISE = "noise is plain Gaussian noise"
_TIMES = "timesteps are uniform over the whole range"
_EMBEDDING = "embeddings (textual inversion) are not trained"
_LORA = "only the plain LoRA is there"
_EMA = "no averaged copy of the weights is kept"
_GPUS = "how gradients are shared between GPUs is torch's choice"
_QUANTIZED = "weights are not quantised"
_LAYERS = "a LoRA adapts the linear layers of the transformer blocks"
_REMOVED = "removed from OneTrainer"
_BOARD = "TensorBoard files are always written; start `tensorboard --logdir store/runs` yourself"


def _layers(value: Any, view: View) -> Iterable[Answer]:
    if not is_lora(view):
        return [Left("not yet", "a full training trains all layers")] if value != "full" else []
    if value == "attn-mlp":
        return []  # the transformer blocks, as here
    why = "a LoRA adapts the linear layers of the transformer blocks, as attn-mlp does"
    return [Left("not yet", why)]


def _own_filter(view: View) -> bool:
    """Whether the filter is the user's own: for a preset, OneTrainer's window repeats it."""
    return not view.says("layer_filter_preset") or bool(view["layer_filter_preset"] == "custom")


def _cloud(value: Any, view: View) -> Iterable[Answer]:
    if not (isinstance(value, dict) and value.get("enabled")):
        return []
    why = "no pods are rented; a Prefect worker on the other machine runs it, with the store on S3"
    return [Left("different", why)]


def _secrets(value: Any, view: View) -> Iterable[Answer]:
    if not (isinstance(value, dict) and any(value.values())):
        return []
    return [Left("not needed", "credentials come from the environment (HF_TOKEN) and stay there")]


def _validates(view: View) -> bool:
    return bool(view["validation"])


def _has_ema(view: View) -> bool:
    return bool(view["ema"] != "OFF")


def _many_gpus(view: View) -> bool:
    return bool(view["multi_gpu"])


def _embeds(view: View) -> bool:
    return bool(view["training_method"] == "EMBEDDING" or view["additional_embeddings"])


def _peft(kind: str, rows: dict[str, Any]) -> dict[str, Row]:
    """Options of one kind of adapter."""

    def chosen(view: View) -> bool:
        return is_lora(view) and bool(view["peft_type"] == kind)

    return {key: only(chosen, later(default, _LORA)) for key, default in rows.items()}


LATER: Table = {
    **{
        key: later(default, _LOSS)
        for key, default in {
            "mse_strength": 1.0,
            "mae_strength": 0.0,
            "log_cosh_strength": 0.0,
            "huber_strength": 0.0,
            "huber_delta": 1.0,
            "vb_loss_strength": 1.0,
            "loss_weight_fn": "CONSTANT",
            "loss_weight_strength": 5.0,
            "cep_gamma": 0.0,
        }.items()
    },
    **{
        key: later(default, _NOISE)
        for key, default in {
            "offset_noise_weight": 0.0,
            "generalized_offset_noise": False,
            "perturbation_noise_weight": 0.0,
            "rescale_noise_scheduler_to_zero_terminal_snr": False,
        }.items()
    },
    **{
        key: later(default, _TIMES)
        for key, default in {
            "timestep_distribution": "UNIFORM",
            "min_noising_strength": 0.0,
            "max_noising_strength": 1.0,
            "noising_weight": 0.0,
            "noising_bias": 0.0,
            "timestep_shift": 1.0,
            "dynamic_timestep_shifting": False,
        }.items()
    },
    "force_v_prediction": unlike(False, "what a model predicts is read from its scheduler"),
    "force_epsilon_prediction": unlike(False, "what a model predicts is read from its scheduler"),
    "loss_scaler": later("NONE", "the loss of a step is the mean over its samples"),
    "dropout_probability": only(is_lora, later(0.0, "LoRA drop-out")),
    "ema": later("OFF", _EMA),
    "ema_decay": only(_has_ema, later(0.999, _EMA)),
    "ema_update_step_interval": only(_has_ema, later(5, _EMA)),
    "non_ema_sampling": only(_has_ema, later(True, _EMA)),
    "layer_filter_preset": Row("full", _layers),
    "layer_filter": only(_own_filter, later("", _LAYERS)),
    "layer_filter_regex": only(_own_filter, later(False, _LAYERS)),
    "lora_decompose": only(is_lora, later(False, "DoRA")),
    "lora_decompose_norm_epsilon": only(is_lora, later(True, "DoRA", quiet=(False,))),
    "lora_decompose_output_axis": only(is_lora, later(False, "DoRA")),
    "lora_weight_dtype": only(is_lora, unlike("FLOAT_32", "trained weights are float32")),
    **_peft(
        "OFT_2",
        {
            "oft_block_size": 32,
            "oft_block_share": False,
            "dora_oft": False,
            "oft_scaled": False,
            "oft_clipped_norm": 0.95,
            "oft_cans": False,
        },
    ),
    **_peft(
        "LOKR",
        {
            "lokr_dim": 16,
            "lokr_decompose_both": False,
            "lokr_decompose_factor": -1,
            "lokr_use_tucker": False,
            "lokr_weight_decompose": False,
            "lokr_dora_on_output": True,
            "lokr_full_matrix": False,
            "lokr_vec_trick": True,
        },
    ),
    "additional_embeddings": later([], _EMBEDDING, quiet=(None,)),
    "bundle_additional_embeddings": only(_embeds, later(True, _EMBEDDING)),
    "embedding_learning_rate": only(_embeds, later(None, _EMBEDDING)),
    "embedding_weight_dtype": only(_embeds, later("FLOAT_32", _EMBEDDING)),
    "preserve_embedding_norm": only(_embeds, later(False, _EMBEDDING)),
    **{
        f"embedding.{key}": only(_embeds, later(default, _EMBEDDING))
        for key, default in {
            "uuid": None,
            "model_name": "",
            "placeholder": "<embedding>",
            "train": True,
            "stop_training_after": None,
            "stop_training_after_unit": "NEVER",
            "token_count": 1,
            "initial_embedding_text": "*",
            "is_output_embedding": False,
        }.items()
    },
    **{
        f"quantization.{key}": later(default, _QUANTIZED)
        for key, default in {
            "layer_filter": "",
            "layer_filter_preset": "full",
            "layer_filter_regex": False,
            "svd_dtype": "NONE",
            "svd_rank": 16,
            "cache_dir": None,
        }.items()
    },
    "async_offloading": unneeded(True, "nothing is offloaded", quiet=(False,)),
    "compile": later(False, "torch.compile"),
    "attention_mechanism": unneeded(
        "SDP", "torch chooses the fastest", quiet=("DEFAULT", "XFORMERS", "FLASH", "CUDNN")
    ),
    "force_circular_padding": later(False, "seamless textures"),
    "enable_autocast_cache": unneeded(True, "torch's own setting is kept"),
    "validation": later(False, "validation concepts are prepared; their loss is not measured"),
    "validate_after": only(_validates, later(1, "the validation loss is not measured")),
    "validate_after_unit": only(_validates, later("EPOCH", "the validation loss is not measured")),
    "save_every": later(0, "models in between are not saved, only backups"),
    "save_every_unit": later("NEVER", "models in between are not saved, only backups"),
    "save_skip_first": later(0, "models in between are not saved, only backups"),
    "sample_image_format": unlike("JPG", "samples are PNG files", quiet=("PNG",)),
    "sample_video_format": unneeded("MP4", "this version makes no video"),
    "sample_audio_format": unneeded("MP3", "this version makes no sound"),
    "samples_to_tensorboard": unneeded(True, "samples are always in TensorBoard too"),
    "gradient_reduce_precision": only(_many_gpus, unneeded("FLOAT_32_STOCHASTIC", _GPUS)),
    "fused_gradient_reduce": only(_many_gpus, unneeded(True, _GPUS)),
    "async_gradient_reduce": only(_many_gpus, unneeded(True, _GPUS)),
    "async_gradient_reduce_buffer": only(_many_gpus, unneeded(100, _GPUS)),
    "sequential_model_setup": only(_many_gpus, unneeded(False, _GPUS)),
    "workspace_dir": unlike("workspace/run", "runs are in the store: store.url, then runs/"),
    "debug_mode": unneeded(False, "the report and the log tell what debug files would"),
    "debug_dir": unneeded("debug", "the report and the log tell what debug files would"),
    "tensorboard": unneeded(True, _BOARD),
    "tensorboard_expose": unneeded(False, _BOARD),
    "tensorboard_always_on": unneeded(False, _BOARD),
    "tensorboard_port": unneeded(6006, _BOARD),
    "offline_mode": unlike(False, "set HF_HUB_OFFLINE=1"),
    "huggingface_cache_dir": unlike("", "set HF_HOME to this folder", quiet=(None,)),
    "cloud": Row(None, _cloud, secret=True),
    "secrets": Row(None, _secrets, secret=True),
    "block_learning_rate_multiplier": later({}, "one learning rate for all layers", quiet=(None,)),
    **{
        key: unneeded(default, _REMOVED)
        for key, default in {
            "extra_model_name": "",
            "circular_mask_generation": False,
            "random_rotate_and_crop": False,
            "latent_caching_epochs": 1,
            "loss_function": "MSE",
            "align_prop": False,
            "align_prop_probability": 0.1,
            "align_prop_loss": "AESTHETIC",
            "align_prop_weight": 0.01,
            "align_prop_steps": 20,
            "align_prop_truncate_steps": 0.5,
            "align_prop_cfg_scale": 7.0,
        }.items()
    },
}
