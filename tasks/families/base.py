"""Family: what differs between model architectures, as facts and the few functions that differ.

Shape legend used by everything below (and by the training code):
    B batch, C latent channels, H W pixels, h w latent cells, T tokens, D embedding width.
    `t` has shape (B,): an integer timestep of the DDPM schedule, or for flow models the share of
    noise times 1000, a float32 in [0, 1000].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.families.sources import ModelSource

    Conditioning = Mapping[str, Tensor]
    """What the denoiser is conditioned on; every value is (B, ...)."""
    TextFields = dict[str, Tensor]
    """What one text encoder gives for a batch of prompts; exactly what is written to shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """One text encoder of a family.

    `encode(model, tokenizer, prompts, layer_skip)` gives a dict of (B, ...) tensors. It does not
    switch gradients off: a text encoder that trains is called by the same function.
    """

    name: str
    """Its name in `[parts]`: text_encoder_1, text_encoder_2, text_encoder_3."""
    model: str
    """The pipeline attribute and subfolder of its weights."""
    tokenizer: str
    """The pipeline attribute and subfolder of its tokenizer."""
    max_tokens: int
    fields: tuple[str, ...]
    encode: "Callable[[Any, Any, Sequence[str], int], TextFields]"
    layer_skip: int = 0
    mask: str | None = None
    """The field (B, T) that is 1 for real tokens and 0 for the padding behind them. Then every
    field with T tokens is stored cut to its real ones and padded with zeros to the longest of a
    batch; None: stored as it is."""
    lora_targets: tuple[str, ...] = ()
    """Module-name suffixes that a LoRA adapts; none: this encoder cannot be trained."""


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
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Layer presets: a name such as attn-only to regular expressions, searched in module names."""
    blocks: tuple[str, ...] = ()
    """Attributes of the denoiser that are lists of its repeated blocks (compiled one by one)."""
    size_multiple: int
    """Bucket edges are rounded to this many pixels; tiles must be a multiple of it."""
    latent_factor: int
    """Pixels per latent cell."""
    patch_cells: int = 1
    """Latent cells along an edge of one image token of the denoiser (for dynamic shift)."""
    size_conditioned: bool
    """Whether `condition` wants original size, crop offset and target size."""
    inpaints: bool = False
    """Whether the conditioning has `holes` besides, (B, 1 + C, h, w): 1 in the cells that are to be
    painted and else 0, and the scaled latents of the image that is grey there."""
    architectures: Mapping[str, str]
    """The scheduler's prediction_type (flow models: "flow") to modelspec.architecture of a full
    model."""
    base_model_versions: Mapping[str, str]
    """The same to ss_base_model_version, as kohya's tools write it."""
    kohya_names: Literal["diffusers", "original"] | None
    """Whose module names kohya's tools put into LoRA keys; None: there is no kohya layout here."""
    single_file_prefixes: Mapping[str, tuple[str, ...]]
    """Component name to the key prefixes of its tensors in a single-file checkpoint; what is not
    named comes from the config folder. Empty: this family has no single-file layout."""
    config_repo: str | None
    """Hub repository with the configs of a single file; None: the file alone cannot tell."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of the pipeline's call, so that it samples what was trained."""
    condition: "Callable[[Mapping[str, TextFields], Tensor | None], Conditioning]"
    """(text fields by encoder, sizes (B, 6) or None) to conditioning."""
    predict: "Callable[[Any, Tensor, Tensor, Conditioning], Tensor]"
    """(denoiser, noisy (B, C, h, w), t (B,), conditioning) to the prediction (B, C, h, w)."""
    encode_image: "Callable[[Any, Tensor], Tensor] | None" = None
    """(vae, pixels (B, 3, H, W) in -1..1) to unscaled latents (B, C, h, w); None: the mean of an
    AutoencoderKL."""
    latent_facts: "Callable[[ModelSource], Mapping[str, Any]] | None" = None
    """Where scaling_factor, shift_factor, latents_mean and latents_std come from; None: the config
    of the VAE."""
