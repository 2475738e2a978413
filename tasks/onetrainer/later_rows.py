"""Settings of the run without a place in run.toml: what comes later, and what is not needed."""

from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.rows import Answer, Left, Row, Table, View, later, only, unlike, unneeded

_GPUS = "how gradients are shared between GPUs is torch's choice"
_QUANTIZED = "train.base_weights takes all linear layers of the denoiser"
_REMOVED = "removed from OneTrainer"
_BOARD = "TensorBoard files are always written; start `tensorboard --logdir store/runs` yourself"


def _cloud(value: Any, view: View) -> Iterable[Answer]:
    if not (isinstance(value, dict) and value.get("enabled")):
        return []
    why = "no pods are rented; a Prefect worker on the other machine runs it, with the store on S3"
    return [Left("different", why)]


def _secrets(value: Any, view: View) -> Iterable[Answer]:
    if not (isinstance(value, dict) and any(value.values())):
        return []
    return [Left("not needed", "credentials come from the environment (HF_TOKEN) and stay there")]


def _many_gpus(view: View) -> bool:
    return bool(view["multi_gpu"])


LATER: Table = {
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
    "force_circular_padding": later(False, "seamless textures"),
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
