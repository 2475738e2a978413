"""Family: what differs between model architectures, as facts and the few functions that differ.

Shape legend used by everything below (and by the training code):
    B batch, C latent channels, H W pixels, h w latent cells, T tokens, D embedding width.
    `t` is an integer timestep of the DDPM schedule, shape (B,).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    Conditioning = Mapping[str, Tensor]
    """What the denoiser is conditioned on; every value is (B, ...)."""
    TextFields = dict[str, Tensor]
    """What one text encoder gives for a batch of prompts; exactly what is written to shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """One text encoder of a family.

    `encode(model, tokenizer, prompts, layer_skip)` gives a dict of (B, ...) tensors.
    """

    name: str
    """Its name in `[parts]`: text_encoder_1, text_encoder_2."""
    model: str
    """The pipeline attribute and subfolder of its weights."""
    tokenizer: str
    """The pipeline attribute and subfolder of its tokenizer."""
    max_tokens: int
    fields: tuple[str, ...]
    encode: "Callable[[Any, Any, Sequence[str], int], TextFields]"
    layer_skip: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A model architecture: facts, and the functions that truly differ."""

    name: str
    pipeline: str
    """Class name of the diffusers pipeline."""
    denoiser: str
    """Pipeline attribute and subfolder of the denoiser: unet or transformer."""
    objective: Literal["ddpm", "flow"]
    text_encoders: tuple[TextEncoder, ...]
    lora_targets: tuple[str, ...]
    """Module-name suffixes that a LoRA adapts by default."""
    size_multiple: int
    """Bucket edges are rounded to this many pixels; tiles must be a multiple of it."""
    latent_factor: int
    """Pixels per latent cell."""
    size_conditioned: bool
    """Whether `condition` wants original size, crop offset and target size."""
    architectures: Mapping[str, str]
    """The scheduler's prediction_type to modelspec.architecture of a full model."""
    base_model_versions: Mapping[str, str]
    """The scheduler's prediction_type to ss_base_model_version, as kohya's tools write it."""
    kohya_names: Literal["diffusers", "original"]
    """Whose module names kohya's tools put into LoRA keys of this family."""
    single_file_prefixes: Mapping[str, tuple[str, ...]]
    """Component name to the key prefixes of its tensors in a single-file checkpoint."""
    config_repo: str | None
    """Hub repository with the configs of a single file; None: the file alone cannot tell."""
    condition: "Callable[[Mapping[str, TextFields], Tensor | None], Conditioning]"
    """(text fields by encoder, sizes (B, 6) or None) to conditioning."""
    predict: "Callable[[Any, Tensor, Tensor, Conditioning], Tensor]"
    """(denoiser, noisy (B, C, h, w), t (B,), conditioning) to the prediction (B, C, h, w)."""
