"""The trained weights as every output format gets them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.families.base import Family
from tasks.families.sources import ModelSource

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What training made of a base model."""

    family: Family
    source: ModelSource
    """The base model that was trained."""
    weights: "Mapping[str, Tensor]"
    """LoRA: `peft.get_peft_model_state_dict(denoiser)`; full: `denoiser.state_dict()`."""
    dtype: str
    """Data type in the file: float32, bfloat16 or float16."""
    rank: int | None = None
    """Rank of the LoRA; None when the whole denoiser was trained."""
    alpha: float | None = None
    """The adapter acts with strength alpha / rank."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Header of the file: `metadata.build_metadata` makes it, more keys may be added."""
