"""Stable Diffusion 1.5 and XL for inpainting: the UNet is also shown the hole and its surroundings.

Nine channels go in, noisy latents, mask and masked image, and four come out as ever (Rombach et al.
2022; the order of the channels is that of the stock pipelines).
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from PIL import Image

from tasks.families.sdxl import SDXL
from tasks.families.stable_diffusion import SD15

if TYPE_CHECKING:
    from torch import Tensor


def _with_holes(noisy: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    import torch

    # Shape (B, 2 C + 1, h, w).
    return torch.cat([noisy, cond["holes"].to(noisy.dtype)], dim=1)


def _predict_sd15(
    denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]"
) -> "Tensor":
    return SD15.predict(denoiser, _with_holes(noisy, cond), t, cond)


def _predict_sdxl(
    denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]"
) -> "Tensor":
    return SDXL.predict(denoiser, _with_holes(noisy, cond), t, cond)


_PAINT_EVERYTHING = {
    "image": Image.new("RGB", (8, 8), "grey"),
    "mask_image": Image.new("L", (8, 8), 255),
    "strength": 1.0,
}
"""Samples begin with nothing but noise; diffusers brings both images to the size of the sample."""

SD15_INPAINT = dataclasses.replace(
    SD15,
    name="sd15_inpaint",
    pipeline="StableDiffusionInpaintPipeline",
    inpaints=True,
    architectures=dict.fromkeys(SD15.architectures, "stable-diffusion-v1-inpainting"),
    config_repo="stable-diffusion-v1-5/stable-diffusion-inpainting",
    sampling=_PAINT_EVERYTHING,
    predict=_predict_sd15,
)

SDXL_INPAINT = dataclasses.replace(
    SDXL,
    name="sdxl_inpaint",
    pipeline="StableDiffusionXLInpaintPipeline",
    inpaints=True,
    architectures=dict.fromkeys(SDXL.architectures, "stable-diffusion-xl-v1-base-inpainting"),
    config_repo="diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    sampling=_PAINT_EVERYTHING,
    predict=_predict_sdxl,
)
