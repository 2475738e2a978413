"""Pixels to latents, and the scaling between stored (unscaled) latents and what the model sees."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family
from tasks.families.sources import ModelSource, read_config

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tasks.imaging.decode import Pixels

EncodeImage = Callable[[Any, "Tensor"], "Tensor"]
"""(vae, pixels (B, 3, H, W) in -1..1) to unscaled latents (B, C, h, w): `Family.encode_image`."""
EncodePixels = Callable[[list["Pixels"]], list["Tensor"]]
"""(H, W, 3 or 4) uint8 images of one shape, as `encode_latents` wants them, to one unscaled latent
(C, h, w) each, on the CPU."""

DEFAULT_SCALING_FACTOR = 0.18215
"""What diffusers assumes for VAE configs from before the field existed (SD 1.x)."""


def load_vae_encoder(
    source: ModelSource, family: Family, dtype: "torch.dtype", device: "torch.device"
) -> EncodePixels:
    """The encoder of a model's VAE, for any thread; preparing and training encode with it alike."""
    import numpy as np
    import torch

    from tasks.families.loading import load_component

    vae = load_component(source, family, "vae", dtype, device)
    # Weights of 3-D convolutions (VAEs made from those of videos) have no such layout.
    if all(weight.ndim < 5 for weight in vae.parameters()):
        vae = vae.to(memory_format=torch.channels_last)

    def encode(images: "list[Pixels]") -> "list[Tensor]":
        # (B, H, W, 3) seen as (B, 3, H, W): channels-last memory, which convolutions like best.
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        latents = encode_latents(vae, pixels.to(device), family.encode_image)
        return list(latents.to(dtype).cpu())

    return encode


def encode_latents(
    vae: Any, pixels: "Tensor", encode_image: "EncodeImage | None" = None
) -> "Tensor":
    """Mean latents, unscaled float32 (B, C, h, w), of uint8 RGB `pixels` (B, 3, H, W).

    A fourth channel is 1 where the pixels count and 0 in holes, which are grey: 0 in -1..1, which
    no uint8 is. Runs in the VAE's own data type, on its own device. Values may be non-finite in
    float16. `encode_image` is the family's; None: the mean of an AutoencoderKL.
    """
    import torch

    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (3, 4):
        raise ValueError(
            "`pixels` must be uint8 of shape (B, 3, H, W), or (B, 4, H, W) with what counts, got "
            f"{pixels.dtype} {pixels.shape}"
        )
    weight = next(vae.parameters())  # `vae.device` and `vae.dtype` walk all modules
    with torch.inference_mode():
        pixels = pixels.to(weight.device)
        image = pixels[:, :3].float().div_(127.5).sub_(1.0)
        if pixels.shape[1] == 4:
            image = image * pixels[:, 3:]
        latents = (encode_image or _mean)(vae, image.to(weight.dtype))
    return latents.float()


def _mean(vae: Any, pixels: "Tensor") -> "Tensor":
    mean: Tensor = vae.encode(pixels).latent_dist.mean
    return mean


def latent_facts(source: ModelSource, family: Family) -> Mapping[str, Any]:
    """What `scale_latents` goes by: scaling_factor, shift_factor, latents_mean, latents_std."""
    if family.latent_facts is not None:
        return family.latent_facts(source)
    return read_config(source, "vae")


def scale_latents(facts: Mapping[str, Any], latents: "Tensor") -> "Tensor":
    """Stored latents to what the denoiser is trained on, by the model's `latent_facts`."""
    mean, std, factor = _normalisation(facts, latents)
    scaled: Tensor = (latents - mean) * (factor / std)
    return scaled


def unscale_latents(facts: Mapping[str, Any], latents: "Tensor") -> "Tensor":
    """The inverse of `scale_latents`: what the VAE decodes."""
    mean, std, factor = _normalisation(facts, latents)
    unscaled: Tensor = latents * (std / factor) + mean
    return unscaled


def _normalisation(facts: Mapping[str, Any], like: "Tensor") -> tuple[Any, Any, float]:
    # Some VAEs have statistics per channel (SDXL types together with a factor), most one factor.
    factor = facts.get("scaling_factor")
    if facts.get("latents_mean") is None or facts.get("latents_std") is None:
        return facts.get("shift_factor") or 0.0, 1.0, factor or DEFAULT_SCALING_FACTOR
    mean = like.new_tensor(facts["latents_mean"]).view(-1, 1, 1)  # (C, 1, 1)
    std = like.new_tensor(facts["latents_std"]).view(-1, 1, 1)
    return mean, std, factor or 1.0
