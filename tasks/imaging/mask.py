"""Masks: how much each part of a picture counts, down to the cells of its latent.

A mask is (height, width) uint8 of its source's size: 255 counts fully, 0 not at all. It takes every
step of the pixels but by averages, so that it neither rings nor counts what it leaves out.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tasks.imaging.augment import Values, augment_mask
from tasks.imaging.decode import decode, upright
from tasks.imaging.header import (
    FORMAT_ERRORS,
    ImageError,
    image_error,
    open_image,
    orientation,
    oriented_size,
)
from tasks.imaging.resize import Box, cut
from tasks.imaging.views import View, cut_views

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

MASK_ENDING = "-masklabel.png"
"""How the file name of a mask ends, behind the stem of its image: OneTrainer's convention."""
_MOST_ASPECT_CHANGE = 0.01


def file_mask(data: bytes, size: tuple[int, int], *, max_pixels: int) -> "Pixels":
    """The luma of a mask file, brought to the (width, height) of its source.

    Raises:
        ImageError: it cannot be decoded, or its shape is not that of the source.
    """
    import cv2

    pixels = decode(data, max_pixels=max_pixels)
    height, width = pixels.shape[:2]
    if abs(width * size[1] - height * size[0]) > _MOST_ASPECT_CHANGE * height * size[0]:
        raise ImageError(
            f"the mask is {width} x {height}, its image {size[0]} x {size[1]}: their aspect ratios "
            f"differ by more than {_MOST_ASPECT_CHANGE:.0%}"
        )
    mask = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return mask if (width, height) == size else average(mask, *size)


def alpha_mask(data: bytes, *, max_pixels: int) -> "Pixels":
    """The opacity of an image, upright as `decode` gives its pixels; all 255 where it has none.

    Raises:
        ImageError: as `decode` does.
    """
    image = open_image(data, max_pixels=max_pixels)
    turn = orientation(image)
    # `decode` too leaves the transparent level of 16-bit grey out of account.
    if not image.has_transparency_data or image.mode.startswith(("I", "F")):
        width, height = oriented_size(image, turn)
        return np.full((height, width), 255, np.uint8)
    try:
        image.load()
        bands = image if "A" in image.getbands() else image.convert("RGBA")
        alpha = np.array(bands.getchannel("A"))
    except FORMAT_ERRORS as error:
        raise image_error(error, image.format) from error
    return upright(alpha, 1 if image.format == "TIFF" else turn)


def may_be_transparent(image_format: str, mode: str) -> bool:
    """Whether an image of this format and mode, as the scan tells them, may have transparency.

    A palette, grey or RGB image may name one transparent colour in the formats that can say so.
    """
    names_a_colour = image_format in ("PNG", "GIF") and mode in ("1", "L", "P", "RGB")
    return names_a_colour or mode in ("RGBA", "LA", "PA", "RGBa", "La")


def average(image: "Pixels", width: int, height: int, box: Box | None = None) -> "Pixels":
    """Resizes (h, w) uint8 by averaging areas; `box` is the part to take, as in `resize`."""
    import cv2

    part = image if box is None else cut(image, box)
    resized = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)


def cut_masks(
    mask: "Pixels", samples: Mapping[View, Mapping[bytes, Values]], latent_factor: int
) -> Iterator[tuple[bytes, "Pixels"]]:
    """Yields (key, (1, h, w) uint8 latent cells) of many samples of one source's mask.

    The counterpart of `cut_samples`: same cut, same flip and rotation as the pixels.
    """
    for view, cut_out in cut_views(mask, list(samples), average):
        for key, values in samples[view].items():
            yield key, mask_cells(augment_mask(cut_out, values), latent_factor)


def mask_cells(mask: "Pixels", latent_factor: int) -> "Pixels":
    """The average of each cell of `latent_factor` x `latent_factor` pixels, (1, h, w) uint8."""
    height, width = (side // latent_factor for side in mask.shape)
    cells = mask.reshape(height, latent_factor, width, latent_factor).mean(axis=(1, 3))
    rounded: Pixels = np.rint(cells)[None].astype(np.uint8)
    return rounded
