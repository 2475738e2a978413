"""The configuration of a run: frozen pydantic models, one class per TOML table.

Defaults live here and nowhere else. Unknown keys are errors. A docstring under a field is its help
text in `tilewright presets`, in the error messages and in the Prefect form.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

StageName = Literal["scan", "prompts", "crops", "captions", "text", "latents"]
Dtype = Literal["float32", "bfloat16", "float16"]


class Section(BaseModel):
    """Common settings of all tables: frozen, no unknown keys, docstrings are descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class StoreConfig(Section):
    """Where caches and dataset versions live."""

    url: str = "store"
    """A folder, `s3://bucket/prefix` or `memory://`. Credentials come from the environment."""
    flush_seconds: float = Field(default=60.0, gt=0)
    """Work is committed at least this often; a kill loses at most this much."""


class ModelConfig(Section):
    """The model that is trained and the file that comes out."""

    family: str
    """Architecture: sd15, sd2 or sdxl."""
    base: str
    """A diffusers folder, .safetensors or .ckpt file, hub name, or backup of an earlier run."""
    config_folder: str | None = None
    """For a single file: a diffusers folder with everything but the weights (offline loading)."""
    output: str = "model.safetensors"
    """The file (or folder, for `diffusers`) that the finished model is written to."""
    output_format: Literal[
        "diffusers", "single_file", "diffusers_lora", "kohya_lora", "embedding"
    ] = "kohya_lora"
    """Layout of the finished model."""
    output_dtype: Dtype = "float16"
    """Data type of the weights in the finished model."""


class DataConfig(Section):
    """How images become samples. Never touched by `[train]`."""

    name: str = "dataset"
    """Name of the dataset in the store."""
    resolution: str = "512"
    """Training resolution in pixels; `512,768` for several at once; `832x1216` for exactly this."""
    aspect_ratio_bucketing: bool = True
    """Group images by aspect ratio; off means a square centre crop."""
    latent_caching: Literal[True] = True
    """Latents are encoded once and cached."""
    seed: int = 0
    """Seed of prepared draws (crop jitter, line choice)."""
    max_pixels: int = Field(default=400_000_000, gt=0)
    """Larger images are quarantined instead of decoded (a decompression bomb guard)."""
    encode_dtype: Dtype = "float32"
    """Data type in which latents and text are encoded and stored."""
    encode_batch_size: int = Field(default=0, ge=0)
    """Images per VAE call; 0 chooses 1 on a CPU and 4 on a GPU."""
    threads: int = Field(default=0, ge=0)
    """Decoding threads; 0 means one per core, at most 8."""
    remainder: Literal["repeat", "drop"] = "repeat"
    """What happens to the incomplete last batch of a bucket in an epoch."""


class DetailCrops(Section):
    """Tiles cut from enlarged views of large images. 0 means 0 unless said otherwise."""

    enabled: bool = False
    """Master switch."""
    tile_resolution: int | None = Field(default=None, gt=0)
    """Edge of the square tiles in pixels; default: the training resolution."""
    overlap: int | None = Field(default=None, ge=0)
    """Least number of pixels that neighbours share; default: an eighth of the tile."""
    scales: tuple[Annotated[float, Field(gt=0)], ...] = (2.0,)
    """For each, the short side of the source becomes training resolution x scale."""
    include_context_tiles: bool = False
    """Also cut tiles from the source at short side = tile_resolution."""
    include_full_images: bool = True
    """Keep the whole image as a sample of its own."""
    blank_std_threshold: float = Field(default=0.004, ge=0)
    """Tiles with a luma standard deviation (0..1) below this are blank; 0 switches the test off."""
    blank_edge_threshold: float = Field(default=0.0, ge=0)
    """Tiles with a smaller share of Canny edge pixels are blank; 0 switches the test off."""
    max_upscale: float | None = Field(default=None, gt=0)
    """Skip a scale that would enlarge a source more than this; default: no limit."""


class ImageConfig(Section):
    """Per-concept image settings."""

    enable_crop_jitter: bool = True
    """Move the bucket crop by a seeded random offset; off means a centre crop."""
    enable_resolution_override: bool = False
    """Use `resolution_override` instead of `data.resolution`."""
    resolution_override: str = "512"
    """Same syntax as `data.resolution`."""
    detail_crops: DetailCrops = DetailCrops()


class Concept(Section):
    """A folder of images with its prompt source and crop settings."""

    name: str = ""
    """Label; must be unique. Default: the folder's name."""
    path: str
    """Folder of images (local or any fsspec URL)."""
    enabled: bool = True
    """A disabled concept is left out."""
    include_subdirectories: bool = False
    """Also take images in subfolders (dot-folders are skipped)."""
    prompt_source: Literal["sidecar", "filename", "text_file"] = "sidecar"
    """`sidecar`: the .txt beside the image; `filename`: its stem; `text_file`: `prompt_path`."""
    prompt_path: str | None = None
    """The text file of `text_file`; a line is drawn per sample."""
    multiline: Literal["lines", "joined"] = "lines"
    """Each non-empty line of a sidecar is a prompt, or all lines joined are one prompt."""
    repeats: float = Field(default=1.0, ge=0)
    """How often each sample is trained per epoch; 0.5 trains a seeded random half."""
    loss_weight: float = Field(default=1.0, ge=0)
    """Multiplier of this concept's loss."""
    image: ImageConfig = ImageConfig()


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


class Config(Section):
    """A whole run, as read from a TOML file."""

    store: StoreConfig = StoreConfig()
    model: ModelConfig
    data: DataConfig = DataConfig()
    concepts: tuple[Concept, ...]
    parts: Parts = Parts()
    train: TrainConfig = TrainConfig()
    workspace: str = "runs"
    """Folder of the training runs when the store is not a local folder (then it is the store's)."""
    refresh: tuple[StageName, ...] = ()
    """Stages whose items are made anew."""
    deep: bool = False
    """Re-read the checksums of everything that is reused."""
