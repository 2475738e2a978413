"""One antialiased resample."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

Box = tuple[int, int, int, int]
_STRIP_ROWS = 256


def resize(image: "Pixels", width: int, height: int, box: Box | None = None) -> "Pixels":
    """Resizes (h, w, 3) uint8 pixels with an antialiased bicubic filter (that of Pillow).

    Args:
        image: The source, never changed.
        width: Target width in pixels.
        height: Target height in pixels.
        box: (left, top, width, height) of the part of `image` to bring to the target size; it is
            cut out first, so that no pixel from outside bleeds in and there is one resample only.

    Raises:
        ValueError: The box is empty or not inside the image, or the target is empty.
    """
    if width < 1 or height < 1:
        raise ValueError(f"cannot resize to {width} x {height}: each side must be at least 1")
    part = image if box is None else cut(image, box)
    if part.shape[:2] == (height, width):
        return part.copy()
    return _resample(part if part.flags.c_contiguous else _narrowed(part, width), width, height)


def _narrowed(part: "Pixels", width: int) -> "Pixels":
    """A part of an image brought to its final width, without a copy of the part in full size.

    The filter is separable, and torch too rounds to whole numbers between its two directions, the
    horizontal one first: in two steps the pixels come out the same.
    """
    if part.shape[1] == width:
        return part
    out = np.empty((part.shape[0], width, 3), np.uint8)
    for top in range(0, part.shape[0], _STRIP_ROWS):
        rows = part[top : top + _STRIP_ROWS]
        out[top : top + _STRIP_ROWS] = _resample(rows, width, rows.shape[0])
    return out


def _resample(part: "Pixels", width: int, height: int) -> "Pixels":
    import torch

    # A permuted (1, H, W, 3) array is torch's channels-last layout, for which its uint8 kernel is
    # vectorised. The axis of one must come first: added last, its stride hides the layout. torch
    # wants writable memory, numpy copies only if it must. `interpolate` would give planes, and
    # bringing them back to pixels takes longer than the resize: hence the operator behind it.
    tensor = torch.from_numpy(np.require(part, requirements=["C", "W"])[None]).permute(0, 3, 1, 2)
    out = np.empty((height, width, 3), np.uint8)
    torch.ops.aten._upsample_bicubic2d_aa.out(
        tensor,
        [height, width],
        False,
        out=torch.from_numpy(out[None]).permute(0, 3, 1, 2),
    )
    return out


def cut(image: "Pixels", box: Box) -> "Pixels":
    """The (left, top, width, height) part of an image, as a view; raises ValueError if outside."""
    left, top, width, height = box
    if (
        min(left, top) < 0
        or min(width, height) < 1
        or left + width > image.shape[1]
        or top + height > image.shape[0]
    ):
        raise ValueError(
            f"box (left, top, width, height) = {box} is not inside the image of "
            f"{image.shape[1]} x {image.shape[0]} pixels"
        )
    return image[top : top + height, left : left + width]
