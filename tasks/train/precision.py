"""Precision: which dtype the forward pass runs in, on which device."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.config.training import TrainConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Frozen weights and the forward pass have `dtype`; trained ones have their own."""

    device_type: str
    dtype: "torch.dtype"

    def autocast(self) -> Any:
        """A context in which the forward pass runs; no-op in float32."""
        import torch

        enabled = self.dtype != torch.float32
        return torch.autocast(self.device_type, self.dtype, enabled=enabled)

    def grad_scaler(self) -> "torch.amp.GradScaler":
        """Scales the loss in float16, whose gradients underflow; else does nothing."""
        import torch

        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)


def choose_device(setting: str, local_rank: int) -> "torch.device":
    """The device of a rank; ValueError when the setting asks for more than there is."""
    import torch

    num_gpus = torch.cuda.device_count()
    if setting == "cpu" or (setting == "auto" and not num_gpus):
        return torch.device("cpu")
    if local_rank >= num_gpus:
        raise ValueError(
            f'train.device = "{setting}" with process {local_rank} (from 0) needs '
            f"{local_rank + 1} CUDA devices, this machine shows {num_gpus}. Lower train.processes "
            'or set train.device = "cpu".'
        )
    return torch.device("cuda", local_rank)


def choose_precision(train_dtype: str, device: "torch.device") -> Precision:
    """The precision of a run; ValueError for float16 on a CPU."""
    import torch

    check_precision(train_dtype, device.type)
    return Precision(device_type=device.type, dtype=getattr(torch, train_dtype))


def check_precision(train_dtype: str, device_type: str) -> None:
    """ValueError for float16 on a CPU."""
    if train_dtype == "float16" and device_type == "cpu":
        raise ValueError(
            'train.train_dtype = "float16" does not train on a CPU (its gradients overflow there). '
            'Use "bfloat16" or "float32".'
        )


def set_up_torch(train: TrainConfig, device: "torch.device") -> None:
    """Process-wide settings of torch: TensorFloat-32 on a GPU."""
    import torch

    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = train.tf32
        torch.backends.cudnn.allow_tf32 = train.tf32


def attention(kind: str) -> AbstractContextManager[Any]:
    """A context in which scaled-dot-product attention uses this kernel; torch's choice for auto."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "math": SDPBackend.MATH,
    }
    return sdpa_kernel(backends[kind]) if kind in backends else nullcontext()


def memory_gib(device: "torch.device") -> dict[str, float]:
    """Peak GPU memory of this process in GiB: what tensors took, and what torch kept for them."""
    import torch

    if device.type != "cuda":
        return {}
    return {
        "allocated_gib": torch.cuda.max_memory_allocated(device) / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved(device) / 2**30,
    }


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that a GPU's, or this machine's, memory ran out."""
    import torch

    on_gpu = isinstance(error, torch.OutOfMemoryError)
    return on_gpu or "DefaultCPUAllocator: can't allocate memory" in str(error)
