"""Batch: one micro-batch as tensors.

B batch, C latent channels, h w latent cells.
"""

from collections.abc import Mapping, Sequence
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

        def move(tensor: "Tensor") -> "Tensor":
            if device.type == "cuda":
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=True).float()

        noise = move(self.noise)
        return replace(
            self,
            latents=move(self.latents),
            noise=noise,
            input_noise=noise if self.input_noise is self.noise else move(self.input_noise),
            timesteps=self.timesteps.to(device),
            texts={
                encoder: {field: move(value) for field, value in fields.items()}
                for encoder, fields in self.texts.items()
            },
            sizes=move(self.sizes),
            weights=move(self.weights),
            masks=None if self.masks is None else move(self.masks),
            holes=None if self.holes is None else move(self.holes),
        )

    def split(self, pieces: int) -> "list[Batch]":
        """The batch in at most so many pieces, in order."""
        size = -(-len(self.rows) // pieces)
        return (
            [self]
            if pieces == 1
            else [self._cut(slice(start, start + size)) for start in range(0, len(self.rows), size)]
        )

    def _cut(self, part: slice) -> "Batch":
        return replace(
            self,
            rows=self.rows[part],
            position=self.position + part.start,
            latents=self.latents[part],
            noise=self.noise[part],
            input_noise=self.input_noise[part],
            timesteps=self.timesteps[part],
            prompts=self.prompts[part],
            texts={
                encoder: {field: value[part] for field, value in fields.items()}
                for encoder, fields in self.texts.items()
            },
            sizes=self.sizes[part],
            weights=self.weights[part],
            is_prior=self.is_prior[part],
            masks=None if self.masks is None else self.masks[part],
            holes=None if self.holes is None else self.holes[part],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatches:
    """What one rank trains in one optimizer step."""

    epoch: int
    step_in_epoch: int
    """From 0."""
    ends_epoch: bool
    batches: Sequence[Batch]
