"""From a configuration to what the order of its epochs depends on besides the rows."""

from tasks.config.models import Config
from tasks.epochs.entries import OrderSettings

PLANNED = "planned"
"""Stands for the digest of a dataset that is not made yet: counts hold, single draws do not."""


def order_settings(config: Config, content_digest: str | None) -> OrderSettings:
    """The order's settings of a training on the rows with this digest; None for a planned one."""
    train = config.train
    return OrderSettings(
        content_digest=content_digest or PLANNED,
        seed=train.seed,
        batch_size=train.batch_size,
        step_size=train.processes * train.gradient_accumulation_steps,
        remainder=config.data.remainder,
    )
