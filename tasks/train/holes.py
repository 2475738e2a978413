"""Holes: what an inpainting model is told of the rows of a batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from storage.reading import ItemReader, ItemRef


def read_with_holes(
    reader: "ItemReader", refs: "Sequence[ItemRef]", grey: "ItemRef", whole: Sequence[bool]
) -> "tuple[Tensor, Tensor]":
    """The latents (B, C, h, w) of rows of one bucket, and their `Batch.holes` (B, 1 + C, h, w).

    Args:
        reader: of the store.
        refs: the rows' latents; a row that has a mask is stored with its hole.
        grey: the image of their bucket that is all hole.
        whole: which rows are to be painted all over, whatever their masks; those without are too.
    """
    import torch

    *items, all_hole = reader.read_many([*refs, grey])
    told = [
        all_hole if is_whole or "masked" not in item else item
        for item, is_whole in zip(items, whole, strict=True)
    ]
    holes = [torch.cat([one["mask"].to(one["masked"].dtype), one["masked"]]) for one in told]
    return torch.stack([item["latent"] for item in items]), torch.stack(holes)
