"""Which text encoders run in training, so that their output is not cached."""

from typing import TYPE_CHECKING

from tasks.families.base import Family, TextEncoder

if TYPE_CHECKING:
    from tasks.config.models import Config


def live_encoders(config: "Config", family: Family) -> list[TextEncoder]:
    """The text encoders that train, or all of them where the vectors of new words train."""
    return [
        encoder
        for encoder in family.text_encoders
        if config.train.embeddings or getattr(config.parts, encoder.name).train
    ]


def cached_encoders(config: "Config", family: Family) -> list[TextEncoder]:
    """The text encoders whose output is stored: all but the live ones."""
    live = [encoder.name for encoder in live_encoders(config, family)]
    return [encoder for encoder in family.text_encoders if encoder.name not in live]
