"""The trained weights as every output format gets them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Method
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
    method: Method
    """How: `[train.method]`."""
    parts: "Mapping[str, Mapping[str, Tensor]]"
    """Trained part (denoiser, text_encoder_1, ...) to its weights. Adapters: under the names of
    `peft.get_peft_model_state_dict`; full: the module's whole state dict."""
    embeddings: "Mapping[str, Mapping[str, Tensor]]" = field(default_factory=dict)
    """Placeholder to text encoder to its vectors (num_vectors, D)."""
    dtype: str
    """Data type in the file: float32, bfloat16 or float16."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Header of the file: `metadata.build_metadata` makes it, more keys may be added."""
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the scheduler that are others than the base model's."""
