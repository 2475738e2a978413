"""LoRA of several modules as the LoRA of the one that holds them all, and back.

Of modules that share their input, such as the projections to q, k and v: the down matrices lie
below each other and the up matrices on a diagonal of blocks, as kohya's tools write and diffusers
reads them. The strength alpha / rank stays when alpha is multiplied as the rank is.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.train.formats.layers import LORA_A, LORA_B

if TYPE_CHECKING:
    from tasks.train.formats.layers import Layer


def fuse(layers: "Sequence[Layer | None]", sizes: Sequence[int]) -> "Layer":
    """One layer of several of the same rank r: down (n r, in), up (sum of sizes, n r).

    None is a module without adapter: its rows of the up matrix are zero.
    """
    import torch

    given = [layer for layer in layers if layer is not None]
    like = given[0]
    ranks = {layer[LORA_A].shape[0] for layer in given}
    if len(ranks) > 1:
        raise ValueError(
            f"modules that are one in kohya's layout have the ranks {sorted(ranks)}; use "
            "diffusers_lora"
        )
    filled = [
        layer
        or {
            LORA_A: torch.zeros_like(like[LORA_A]),
            LORA_B: like[LORA_B].new_zeros(size, like[LORA_B].shape[1]),
        }
        for layer, size in zip(layers, sizes, strict=True)
    ]
    return {
        LORA_A: torch.cat([layer[LORA_A] for layer in filled]),
        LORA_B: torch.block_diag(  # type: ignore[no-untyped-call]
            *(layer[LORA_B] for layer in filled)
        ),
    }


def unfuse(layer: "Layer", sizes: Sequence[int]) -> "list[Layer | None]":
    """The layers of the single modules: of rank r where `fuse` made it, else all of rank n r.

    None where nothing is added to a module's output.
    """
    import torch

    down, up = layer[LORA_A], layer[LORA_B]
    rows = torch.split(up, list(sizes))
    rank, rest = divmod(down.shape[0], len(sizes))
    blocks = [torch.split(one, rank, dim=1) for one in rows] if rest == 0 else []
    is_diagonal = bool(blocks) and all(
        not block.any()
        for number, row in enumerate(blocks)
        for place, block in enumerate(row)
        if place != number
    )
    if is_diagonal:
        parts = [
            {LORA_A: one, LORA_B: row[number].contiguous()}
            for number, (one, row) in enumerate(zip(torch.split(down, rank), blocks, strict=True))
        ]
    else:
        parts = [{LORA_A: down.clone(), LORA_B: row.contiguous()} for row in rows]
    return [part if part[LORA_B].any() or part[LORA_A].any() else None for part in parts]


def swap_halves(layer: "Layer") -> "Layer":
    """The layer of a modulation whose two halves of outputs change places."""
    import torch

    return {**layer, LORA_B: torch.cat(layer[LORA_B].chunk(2)[::-1])}
