"""The training tables: `[parts]` and `[train]`. Changing them re-runs nothing but training."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config.section import Dtype, Section


class Part(Section):
    """One trainable part of the model."""

    train: bool = False
    """Whether this part is trained."""


class Parts(Section):
    """Which parts of the model train."""

    denoiser: Part = Part(train=True)
    text_encoder_1: Part = Part()
    text_encoder_2: Part = Part()


class FullMethod(Section):
    """Train all weights of the denoiser."""

    kind: Literal["full"] = "full"


class LoraMethod(Section):
    """Train a low-rank adapter (LoRA)."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=16, gt=0)
    """Rank of the adapter matrices."""
    alpha: float = Field(default=16.0, gt=0)
    """The adapter is scaled by alpha / rank."""


class AdamW(Section):
    """torch.optim.AdamW."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)


class Schedule(Section):
    """Learning-rate schedule with linear warm-up."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps in which the learning rate rises from 0."""
    min_factor: float = Field(default=0.0, ge=0, le=1)
    """The learning rate never falls below this share of its peak (linear, cosine)."""


class Cadence(Section):
    """How often something happens."""

    every: int = Field(default=0, ge=0)
    """Once every so many units; 0 means never."""
    unit: Literal["step", "epoch"] = "step"
    """What `every` counts."""


class BackupCadence(Cadence):
    """How often a resumable backup is written, and how many are kept."""

    every: int = Field(default=500, ge=0)
    keep: int = Field(default=3, ge=1)
    """How many of the newest backups are kept."""


class SampleCadence(Cadence):
    """When sample images are drawn, and of what. Also drawn once after training.

    Without prompts no image is drawn.
    """

    prompts: tuple[str, ...] = ()
    """One image is drawn per prompt."""
    negative_prompt: str = ""
    """What the images should not show."""
    steps: int = Field(default=20, gt=0)
    """Denoising steps per image."""
    guidance: float = Field(default=7.0, ge=0)
    """Classifier-free guidance scale."""
    seed: int = 42
    """Seed of the first image; each further prompt adds one."""
    width: int | None = Field(default=None, gt=0)
    """Pixels; default: the training resolution."""
    height: int | None = Field(default=None, gt=0)
    """Pixels; default: the training resolution."""


class TrainConfig(Section):
    """The training run. Changing any of this re-runs nothing but training."""

    method: Annotated[FullMethod | LoraMethod, Field(discriminator="kind")] = LoraMethod()
    optimizer: AdamW = AdamW()
    schedule: Schedule = Schedule()
    learning_rate: float = Field(default=1e-4, gt=0)
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
    """Data type of the forward pass (autocast); trained weights stay float32."""
    caption_dropout: float = Field(default=0.0, ge=0, le=1)
    """Share of samples that train on the empty prompt."""
    seed: int = 42
    """Seed of order, noise, timesteps and drop-out."""
    processes: int = Field(default=1, ge=1)
    """Training processes (one per GPU)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes the GPU when there is one."""
    grace_seconds: float = Field(default=30.0, gt=0)
    """How long a cancelled training may take to write its backup."""
    retries: int = Field(default=2, ge=0)
    """How often a crashed training is resumed from its last backup by itself."""
    backup: BackupCadence = BackupCadence()
    sample: SampleCadence = SampleCadence()
