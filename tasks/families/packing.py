"""Packing: latents as the tokens that transformers of the FLUX kind read, and back.

A token is a patch of 2 x 2 latent cells: of (B, C, h, w) it makes (B, h/2 * w/2, C * 4), rows
first, channels slowest within a token.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pack(latents: "Tensor") -> "Tensor":
    """(B, C, h, w) to (B, h/2 * w/2, C * 4)."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpack(tokens: "Tensor", height: int, width: int) -> "Tensor":
    """(B, h/2 * w/2, C * 4) to (B, C, h, w)."""
    batch, _, size = tokens.shape
    patches = tokens.reshape(batch, height // 2, width // 2, size // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, size // 4, height, width)


def needed(mask: "Tensor") -> "Tensor | None":
    """The mask (B, T) as booleans; None where every token is real: attention is faster without."""
    return None if bool(mask.all()) else mask.bool()
