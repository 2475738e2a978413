"""The training table: `[train]`. Changing it re-runs nothing but training."""

from typing import Literal

from pydantic import Field

from tasks.config.cadences import BackupCadence, SampleCadence, SaveCadence, ValidateCadence
from tasks.config.methods import Embedding, LoraMethod, Method
from tasks.config.objectives import Ema, LossConfig, MaskedTraining, Noise, Timesteps
from tasks.config.optimizers import AdamW, Optimizer, Schedule
from tasks.config.section import Dtype, Section

BatchScaler = Literal["none", "batch", "global_batch", "accumulation", "both", "global_both"]
"""What is multiplied: samples per micro-batch, the same of all processes, micro-batches per step,
or both."""


class TrainConfig(Section):
    """The training run. Changing any of this re-runs nothing but training."""

    method: Method = LoraMethod()
    embeddings: tuple[Embedding, ...] = ()
    """New words whose vectors are trained, beside whatever `method` trains."""
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Schedule()
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    learning_rate_scaler: BatchScaler = "none"
    """Multiply learning rates by the square root of this number of samples."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the dataset (ignored when `max_steps` is set)."""
    max_steps: int | None = Field(default=None, ge=1)
    """Total optimizer steps; default: `epochs` whole epochs."""
    batch_size: int = Field(default=1, ge=1)
    """Samples per process and micro-batch."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Micro-batches per process and optimizer step."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    clip_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 switches clipping off."""
    train_dtype: Dtype = "bfloat16"
    """Data type of the forward pass (autocast)."""
    weight_dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the trained weights. bfloat16 needs an optimizer that rounds stochastically."""
    base_weights: Literal["train_dtype", "int8", "float8"] = "train_dtype"
    """Data type of the frozen linear layers of the denoiser: int8 and float8 halve their memory (by
    torchao; adapters only)."""
    tf32: bool = True
    """Let a GPU multiply float32 matrices in TensorFloat-32."""
    attention: Literal["auto", "flash", "efficient", "cudnn", "math"] = "auto"
    """Which kernel of scaled-dot-product attention is used; auto lets torch choose."""
    compile: bool = False
    """Compile the blocks of the denoiser by torch.compile: slower to start, faster per step."""
    timesteps: Timesteps = Timesteps()
    noise: Noise = Noise()
    loss: LossConfig = LossConfig()
    loss_scaler: BatchScaler = "none"
    """Multiply the loss by this number of samples."""
    mask: MaskedTraining = MaskedTraining()
    ema: Ema = Ema()
    caption_dropout: float = Field(default=0.0, ge=0, le=1)
    """Share of samples that train on the empty prompt."""
    non_finite: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is not a number ends the run, or that step is left out and told; more
    than 10 such steps in a row end it all the same."""
    seed: int = 42
    """Seed of order, noise, timesteps and drop-out."""
    processes: int = Field(default=1, ge=1)
    """Training processes (one per GPU)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes the GPU when there is one."""
    grace_seconds: float = Field(default=30.0, gt=0)
    """How long a cancelled training may take to write its backup."""
    timeout_hours: float | None = Field(default=None, gt=0)
    """A training that takes longer than this ends with a backup and counts as failed; going on with
    it gives it as long again. Default: no limit."""
    retries: int = Field(default=2, ge=0)
    """How often a crashed training is resumed from its last backup by itself."""
    halve_batch_on_oom: bool = False
    """When memory runs out, go on with half the batch size and twice the accumulation."""
    backup: BackupCadence = BackupCadence()
    save: SaveCadence = SaveCadence()
    validation: ValidateCadence = ValidateCadence()
    sample: SampleCadence = SampleCadence()
