"""The configuration of a run: frozen pydantic models, one class per TOML table.

Defaults live here and in the modules of the larger tables (`concepts`, `training`), nowhere else.
Unknown keys are errors. A docstring under a field is its help text in `tilewright presets`, in the
error messages and in the Prefect form.
"""

from typing import Literal

from pydantic import Field

from tasks.config.concepts import Concept
from tasks.config.methods import Parts
from tasks.config.section import Dtype, Section
from tasks.config.training import TrainConfig
from tasks.config.workers import WorkersConfig

StageName = Literal["scan", "prompts", "crops", "captions", "masks", "text", "latents"]


class StoreConfig(Section):
    """Where caches and dataset versions live."""

    url: str = "store"
    """A folder, `s3://bucket/prefix` or `memory://`. Credentials come from the environment."""
    flush_seconds: float = Field(default=60.0, gt=0)
    """Work is committed at least this often; a kill loses at most this much."""


class ModelConfig(Section):
    """The model that is trained and the file that comes out."""

    family: str
    """Architecture: sd15, sd2, sdxl, sd3, sd35, flux_dev, flux_schnell, pixart_alpha, pixart_sigma,
    sana, chroma, qwen_image, z_image, flux2, flux2_klein, sd15_inpaint or sdxl_inpaint."""
    base: str
    """A diffusers folder, .safetensors or .ckpt file, hub name, or backup of an earlier run."""
    config_folder: str | None = None
    """For a single file: a diffusers folder with everything that is not in it (offline loading)."""
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
    latent_caching: bool = True
    """Latents are encoded once and cached; off, training encodes every image itself, each epoch in
    a new variation."""
    seed: int = 0
    """Seed of prepared draws (crop jitter, augmentation, tags, line choice, grid phases)."""
    max_pixels: int = Field(default=400_000_000, gt=0)
    """Larger images are quarantined instead of decoded (a decompression bomb guard)."""
    decode_memory_mib: int = Field(default=1536, gt=0)
    """Images are decoded at the same time only while their pixels fit into this; a larger one is
    decoded alone."""
    encode_dtype: Dtype = "float32"
    """Data type in which latents and text are encoded and stored."""
    encode_batch_size: int = Field(default=0, ge=0)
    """Images per VAE call; 0 chooses 1 on a CPU and 4 on a GPU."""
    threads: int = Field(default=0, ge=0)
    """Decoding threads; 0 means one per core, at most 8."""
    remainder: Literal["repeat", "drop"] = "repeat"
    """What happens to the incomplete last batch of a bucket in an epoch."""


class Config(Section):
    """A whole run, as read from a TOML file."""

    store: StoreConfig = StoreConfig()
    model: ModelConfig
    data: DataConfig = DataConfig()
    concepts: tuple[Concept, ...]
    parts: Parts = Parts()
    train: TrainConfig = TrainConfig()
    workers: WorkersConfig = WorkersConfig()
    workspace: str = "runs"
    """Folder of the training runs when the store is not a local folder (then it is the store's)."""
    refresh: tuple[StageName, ...] = ()
    """Stages whose items are made anew."""
    review_captions: bool = False
    """Wait for a person to look at new captions before they are encoded."""
    gpu_limit: bool | None = None
    """Captioning by a server on this machine, encoding on the GPU and training take turns, by the
    Prefect concurrency limit tilewright-gpu-HOST. Default: where there is an NVIDIA GPU."""
    deep: bool = False
    """Re-read the checksums of everything that is reused."""
