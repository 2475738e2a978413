"""Forward: the denoiser with the text encoders that run in training, as one module.

One module, so that torch can distribute it: ranks average the gradients of all trained parts alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tasks.families.base import Family, TextEncoder
from tasks.train.precision import Precision

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEncoder:
    """A text encoder that runs in every step, since it or its words train."""

    encoder: TextEncoder
    tokenizer: Any
    spell_out: Callable[[str], str]
    """Writes trained words as their tokens."""
    has_gradient: Callable[[], bool]
    """Whether anything of it trains (still)."""


class Forward(torch.nn.Module):
    """(noisy, t, prompts, cached texts, sizes, holes) to the prediction."""

    def __init__(
        self,
        family: Family,
        precision: Precision,
        denoiser: Any,
        live: Mapping[str, LiveEncoder],
        models: Mapping[str, Any],
    ) -> None:
        """`live` and `models` are by text encoder."""
        super().__init__()
        self.family = family
        self.precision = precision
        self.denoiser = denoiser
        self.live = dict(live)
        self.encoders = torch.nn.ModuleDict(dict(models))

    def forward(
        self,
        noisy: "Tensor",
        t: "Tensor",
        prompts: Sequence[str],
        texts: "Mapping[str, dict[str, Tensor]]",
        sizes: "Tensor",
        holes: "Tensor | None" = None,
    ) -> "Tensor":
        """The prediction (B, C, h, w); `texts` are the fields of the encoders that do not run.

        `holes`, (B, 1 + C, h, w), is what `Family.inpaints` says; None for all other models.
        """
        with self.precision.autocast():
            everything = {**texts, **{name: self._encode(name, prompts) for name in self.live}}
            size = sizes if self.family.size_conditioned else None
            conditioning = self.family.condition(everything, size)
            if holes is not None:
                conditioning = {**conditioning, "holes": holes}
            return self.family.predict(
                self.denoiser, noisy.to(self.precision.dtype), t, conditioning
            )

    def spell_out(self, prompt: str) -> str:
        """The prompt with trained words written as their tokens."""
        for live in self.live.values():
            return live.spell_out(prompt)
        return prompt

    def _encode(self, name: str, prompts: Sequence[str]) -> "dict[str, Tensor]":
        live = self.live[name]
        spelled = [live.spell_out(prompt) for prompt in prompts]
        with torch.set_grad_enabled(torch.is_grad_enabled() and live.has_gradient()):
            return live.encoder.encode(
                self.encoders[name], live.tokenizer, spelled, live.encoder.layer_skip
            )
