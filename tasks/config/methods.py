"""Methods and parts: what of a model trains, and how."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config.section import Section


class StopAfter(Section):
    """When a part stops training, counted from the start of the run."""

    n: int = Field(ge=0)
    """So many units."""
    unit: Literal["step", "epoch"] = "epoch"
    """What `n` counts."""


class Part(Section):
    """One trainable part of the model."""

    train: bool = False
    """Whether this part is trained."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of this part; default: `train.learning_rate`."""
    stop_after: StopAfter | None = None
    """From then on this part is frozen; default: it trains to the end."""


class Denoiser(Part):
    """The UNet or transformer."""

    train: bool = True
    """Whether this part is trained."""


class Parts(Section):
    """Which parts of the model train."""

    denoiser: Denoiser = Denoiser()
    text_encoder_1: Part = Part()
    text_encoder_2: Part = Part()
    text_encoder_3: Part = Part()


class FullMethod(Section):
    """Train the weights themselves."""

    kind: Literal["full"] = "full"
    layers: tuple[str, ...] = ()
    """Only layers of the denoiser that one of these names: a layer preset of the family, or a
    regular expression that is searched in the layer's name. Default: all."""


class Adapter(Section):
    """What all adapters have in common."""

    kind: str
    rank: int = Field(default=16, gt=0)
    """Rank of the adapter matrices."""
    alpha: float = Field(default=16.0, gt=0)
    """The adapter is scaled by alpha / rank."""
    layers: tuple[str, ...] = ()
    """Only layers of the denoiser that one of these names: a layer preset of the family, or a
    regular expression that is searched in the layer's name. Default: the family's usual layers."""
    initial: str | None = None
    """An adapter file of this kind and rank, in diffusers' or kohya's layout, to go on from."""


class LoraMethod(Adapter):
    """Train a low-rank adapter (LoRA)."""

    kind: Literal["lora"] = "lora"
    dora: bool = False
    """Also train the magnitude of each layer's weights (DoRA)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that are zeroed in training."""


class LohaMethod(Adapter):
    """Train a Hadamard-product adapter (LoHa)."""

    kind: Literal["loha"] = "loha"


class LokrMethod(Adapter):
    """Train a Kronecker-product adapter (LoKr)."""

    kind: Literal["lokr"] = "lokr"
    factor: int = Field(default=-1, ge=-1)
    """Size of the small Kronecker factor; -1: as near to a square as the layer allows."""


class EmbeddingMethod(Section):
    """Train only the vectors of `train.embeddings` (textual inversion)."""

    kind: Literal["embedding"] = "embedding"


Method = Annotated[
    FullMethod | LoraMethod | LohaMethod | LokrMethod | EmbeddingMethod,
    Field(discriminator="kind"),
]


class Embedding(Section):
    """A new word whose vectors are trained (textual inversion)."""

    placeholder: str = Field(min_length=1)
    """The word in prompts that stands for it, such as `<harbour>`."""
    initial_text: str = "*"
    """Its vectors start as those of this text, repeated or cut to `num_vectors`."""
    num_vectors: int | None = Field(default=None, ge=1)
    """How many vectors it has; default: as many as `initial_text` has tokens."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; default: `train.learning_rate`."""
    stop_after: StopAfter | None = None
    """From then on it is frozen; default: it trains to the end."""
