"""What can be refused before any process is started and any library is loaded."""

from pathlib import Path

from tasks.config.models import Config
from tasks.families import get_family
from tasks.families.output_formats import allowed_formats, why_not
from tasks.train.precision import check_precision

GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""What a machine with an NVIDIA or AMD GPU has, or Windows' Linux with either."""


def check_training(config: Config) -> None:
    """ValueError when a run cannot train as configured on this machine."""
    if config.store.url.startswith("memory:"):
        raise ValueError(
            f"store.url = {config.store.url!r} lives in this process alone, and training runs in "
            "processes of its own. Use a folder or an s3:// store."
        )
    has_gpu = any(Path(device).exists() for device in GPU_DEVICES)
    if config.train.device == "cuda" and not has_gpu:
        raise ValueError(
            'train.device = "cuda", but this machine has no GPU. Set it to "auto" or "cpu".'
        )
    device = "cuda" if has_gpu and config.train.device != "cpu" else "cpu"
    check_precision(config.train.train_dtype, device)
    if config.train.compile and device == "cpu":
        raise ValueError(
            "train.compile = true is for GPUs: on a CPU the compiler of torch 2.13 gave gradients "
            "that were wrong by some percent. Set it to false."
        )
    _check_output(config)


def _check_output(config: Config) -> None:
    family, kind = get_family(config.model.family), config.train.method.kind
    chosen = config.model.output_format
    if reason := why_not(family, kind, chosen):
        allowed = ", ".join(allowed_formats(family, kind)) or "none"
        raise ValueError(
            f"model.output_format = {chosen!r} cannot hold what this run trains: {reason}. "
            f"Allowed: {allowed}."
        )
