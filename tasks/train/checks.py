"""What can be refused before any process is started and any library is loaded."""

from pathlib import Path

from tasks.config.models import Config
from tasks.train.formats import FORMAT_METHODS
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
    _check_output(config.model.output_format, config.train.method.kind)


def _check_output(output_format: str, method: str) -> None:
    if FORMAT_METHODS.get(output_format) == method:
        return
    allowed = [name for name, kind in FORMAT_METHODS.items() if kind == method]
    raise ValueError(
        f"model.output_format = {output_format!r} cannot hold what train.method.kind = {method!r} "
        f"trains. Allowed: {', '.join(allowed)}."
    )
