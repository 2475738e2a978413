"""Batch: one micro-batch as tensors.

B batch, C latent channels, h w latent cells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch on the CPU or, after `to`, on the training device."""

    rows: tuple[int, ...]
    epoch: int
    position: int
    """Place of the first row in its epoch."""
    latents: "Tensor"
    """(B, C, h, w), unscaled."""
    noise: "Tensor"
    """(B, C, h, w)."""
    input_noise: "Tensor"
    """(B, C, h, w): what the latents are mixed with; `noise` itself without perturbation."""
    timesteps: "Tensor"
    """(B,), as the family wants them."""
    prompts: tuple[str, ...]
    """What each row trains on."""
    texts: "Mapping[str, dict[str, Tensor]]"
    """Text encoder to field to (B, ...), of encoders that do not run in training."""
    sizes: "Tensor"
    """(B, 6): original height and width, crop top and left, target height and width."""
    weights: "Tensor"
    """(B,), the loss weights."""
    is_prior: tuple[bool, ...]
    """Whether a row trains on what the untrained model predicts for it."""
    masks: "Tensor | None" = None
    """(B, 1, h, w) in 0..1: how much each cell counts; None: all of them."""
    holes: "Tensor | None" = None
    """(B, 1 + C, h, w), for an inpainting model alone: 1 in the cells that it is to paint, and the
    unscaled latents of the image that is grey there."""

    def to(self, device: "torch.device") -> "Batch":
        """The same batch on a device, all but the timesteps in float32."""
        moved = self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True).float())
        return replace(moved, timesteps=self.timesteps.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The same batch in memory from which a GPU copies while it computes."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def split(self, pieces: int) -> "list[Batch]":
        """The batch in at most so many pieces, in order."""
        if pieces == 1:
            return [self]
        size = -(-len(self.rows) // pieces)
        return [self._cut(slice(start, start + size)) for start in range(0, len(self.rows), size)]

    def _cut(self, part: slice) -> "Batch":
        return replace(
            self._with_tensors(lambda tensor: tensor[part]),
            rows=self.rows[part],
            position=self.position + part.start,
            prompts=self.prompts[part],
            is_prior=self.is_prior[part],
        )

    def _with_tensors(self, change: "Callable[[Tensor], Tensor]") -> "Batch":
        """The batch with every tensor changed; one that two fields share is changed once."""
        noise = change(self.noise)
        return replace(
            self,
            latents=change(self.latents),
            noise=noise,
            input_noise=noise if self.input_noise is self.noise else change(self.input_noise),
            timesteps=change(self.timesteps),
            texts={
                encoder: {field: change(value) for field, value in fields.items()}
                for encoder, fields in self.texts.items()
            },
            sizes=change(self.sizes),
            weights=change(self.weights),
            masks=None if self.masks is None else change(self.masks),
            holes=None if self.holes is None else change(self.holes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatches:
    """What one rank trains in one optimizer step."""

    epoch: int
    step_in_epoch: int
    """From 0."""
    ends_epoch: bool
    batches: Sequence[Batch]
