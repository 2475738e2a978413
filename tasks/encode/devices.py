"""Devices: where encoding runs and in which data type."""

from os import cpu_count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def encode_device() -> "torch.device":
    """The GPU when there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def torch_dtype(name: str) -> "torch.dtype":
    """The torch data type of a configured name such as bfloat16."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def batch_size(configured: int, device: "torch.device") -> int:
    """Items per model call: as configured, or 1 on a CPU (larger is slower there) and 4 on a GPU.

    A batch of one also makes what is encoded independent of what it was encoded with, bit by bit.
    """
    return configured or (1 if device.type == "cpu" else 4)


def num_encoders(device: "torch.device") -> int:
    """Threads that call the model: one per core on a CPU, one for a GPU."""
    return (cpu_count() or 1) if device.type == "cpu" else 1
