"""Validation: the loss on held-out rows, with timesteps and noise that never change.

A row's noise comes from its row_id, and its timesteps are the middles of equal parts of the
schedule: two measurements differ by the weights alone, and a new row changes no other's loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.config.objectives import MaskedTraining
from tasks.train.assemble import Entry, Source, make_batch
from tasks.train.batch import Batch
from tasks.train.rows import Rows
from tasks.train.state import Training
from tasks.train.step import predict_losses

if TYPE_CHECKING:
    import torch

SEED = 0
"""Of the noise: the run's own seed does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Mean losses."""

    loss: float
    by_concept: Mapping[str, float]
    by_quantile: Sequence[float]
    """From the least noise to the most."""


def validate(training: Training, source: Source, rows: Rows) -> Validation:
    """Measures all rows, with the weights as they are; loss weights and masks do not count.

    Args:
        training: the model.
        source: how its batches are made.
        rows: the validation rows.
    """
    import torch

    quantiles = training.config.validation.quantiles
    draws = replace(source.draws, seed=SEED, mask=MaskedTraining(), caption_dropout=0.0)
    held_out = replace(source, rows=rows, draws=draws)
    concepts = rows.items["concept"].to_pylist()
    found: list[tuple[str, int, float]] = []
    with _evaluating(training.forward), torch.no_grad():
        for quantile in range(quantiles):
            share = (quantile + 0.5) / quantiles
            for batch in _batches(held_out, training.config.batch_size, share):
                losses = predict_losses(training, batch.to(training.device), training.forward)
                for row, loss in zip(batch.rows, losses.tolist(), strict=True):
                    found.append((concepts[row], quantile, loss))
    return Validation(
        loss=fmean(loss for _, _, loss in found),
        by_concept={
            name: fmean(loss for concept, _, loss in found if concept == name)
            for name in sorted(set(concepts))
        },
        by_quantile=[
            fmean(loss for _, number, loss in found if number == quantile)
            for quantile in range(quantiles)
        ],
    )


def _batches(source: Source, batch_size: int, share: float) -> Iterator[Batch]:
    """All rows, bucket by bucket."""
    rows = source.rows
    for bucket in np.unique(rows.order.bucket):
        members = np.flatnonzero(rows.order.bucket == bucket).tolist()
        for start in range(0, len(members), batch_size):
            chosen = members[start : start + batch_size]
            items = rows.items.take(chosen).to_pylist()
            entries = [
                Entry(
                    row=row,
                    position=int.from_bytes(rows.names["row_id"][row].as_py()[:6], "little"),
                    prompt=0 if item["prompts"] else None,
                    share=share,
                )
                for row, item in zip(chosen, items, strict=True)
            ]
            yield make_batch(source, items, entries, 0)


@contextmanager
def _evaluating(module: "torch.nn.Module") -> Iterator[None]:
    """Meanwhile nothing is dropped; parts may have had modes of their own."""
    modes: list[tuple[Any, bool]] = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
