"""Batches: from the order of an epoch to tensors, read ahead by threads of this process.

B batch, C latent channels, h w latent cells. No worker processes: items are read by `preadv` on
threads, which hold no copy of the model and leave nothing behind when this process is killed.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.epochs.entries import OrderSettings
from tasks.epochs.order import EpochOrder, epoch_plan
from tasks.train.encoding import Encoder, encode_rows
from tasks.train.noise import normal, uniform
from tasks.train.rows import Rows, Sizes, latent_ref, text_ref
from tasks.train.timesteps import TIMESTEPS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from storage.reading import ItemReader, ItemRef

T = TypeVar("T")
MAX_EMPTY_EPOCHS = 1000
READ_AHEAD = 2
"""Batches in preparation beside the ones of the running step."""
READ_THREADS = 2
"""Threads that read cached items; decoding and encoding may use more."""


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
    timesteps: "Tensor"
    """(B,), integer."""
    texts: "Mapping[str, dict[str, Tensor]]"
    """Text encoder to field to (B, ...)."""
    sizes: "Tensor"
    """(B, 6): original height and width, crop top and left, target height and width."""
    weights: "Tensor"
    """(B,), the loss weights."""

    def to(self, device: "torch.device") -> "Batch":
        """The same batch on a device, all but the timesteps in float32."""

        def move(tensor: "Tensor") -> "Tensor":
            if device.type == "cuda":
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=True).float()

        return Batch(
            rows=self.rows,
            epoch=self.epoch,
            position=self.position,
            latents=move(self.latents),
            noise=move(self.noise),
            timesteps=self.timesteps.to(device),
            texts={
                encoder: {field: move(value) for field, value in fields.items()}
                for encoder, fields in self.texts.items()
            },
            sizes=move(self.sizes),
            weights=move(self.weights),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatches:
    """What one rank trains in one optimizer step."""

    epoch: int
    step_in_epoch: int
    """From 0."""
    ends_epoch: bool
    batches: Sequence[Batch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How the random draws of a batch are made."""

    seed: int
    num_timesteps: int
    caption_dropout: float = 0.0
    timesteps: str = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Everything that batches are made of."""

    rows: Rows
    reader: "ItemReader"
    order: OrderSettings
    draws: Draws
    encoder: Encoder | None = None
    """Makes the latents of rows that have none."""
    rank: int = 0
    world: int = 1


def step_batches(source: Source, epoch: int, step: int) -> Generator[StepBatches, None, None]:
    """The steps of this rank from step `step` of epoch `epoch` on, through all later epochs.

    Close the iterator to stop its threads.
    """
    per_step = source.order.step_size // source.world
    places: deque[tuple[EpochOrder, int]] = deque()

    def jobs() -> Iterator[Callable[[], Batch]]:
        for place in _places(source, epoch, step):
            places.append(place)
            order, number = place
            for micro in order.micro_batches(number, source.rank, source.world):
                yield partial(assemble, source, order, micro)

    threads = source.encoder.threads if source.encoder else READ_THREADS
    depth = per_step + max(READ_AHEAD, threads)
    with closing(read_ahead(jobs(), depth, threads)) as batches:
        while True:
            step_rows = [next(batches) for _ in range(per_step)]
            order, number = places.popleft()
            yield StepBatches(
                epoch=order.epoch,
                step_in_epoch=number,
                ends_epoch=number + 1 == order.num_steps,
                batches=step_rows,
            )


def read_ahead(
    jobs: Iterable[Callable[[], T]], depth: int, threads: int = READ_THREADS
) -> Generator[T, None, None]:
    """Results of `jobs` in order, `depth` of them running or waiting at any time."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    waiting: deque[Future[T]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def assemble(source: Source, order: EpochOrder, micro: int) -> Batch:
    """Reads and draws one micro-batch; a pure function of its arguments and the store."""
    import torch

    rows, draws = source.rows, source.draws
    chosen = order.rows[micro]
    size = len(chosen)
    positions = range(micro * size, (micro + 1) * size)
    items = rows.items.take(chosen).to_pylist()
    texts = [
        _text_refs(rows, item, draws, order.epoch, position)
        for item, position in zip(items, positions, strict=True)
    ]
    latents, sizes = _latents(source, items, rows.sizes[chosen], order.epoch)
    return Batch(
        rows=tuple(chosen.tolist()),
        epoch=order.epoch,
        position=positions.start,
        latents=latents,
        noise=normal(tuple(latents.shape[1:]), draws.seed, order.epoch, positions),
        timesteps=torch.tensor([_timestep(draws, order.epoch, p) for p in positions]),
        texts={
            encoder: _read_texts(source.reader, [text[encoder] for text in texts])
            for encoder in texts[0]
        },
        sizes=torch.from_numpy(sizes),
        weights=torch.from_numpy(rows.loss_weight[chosen]),
    )


def _latents(
    source: Source, items: Sequence[Mapping[str, Any]], sizes: Sizes, epoch: int
) -> "tuple[Tensor, Sizes]":
    """The latents (B, C, h, w) of rows, and their sizes (B, 6): a fresh crop lies elsewhere."""
    if source.encoder is None:
        (latents,) = source.reader.read_stacked([latent_ref(item) for item in items]).values()
        return latents, sizes
    encoded = encode_rows(source.encoder, items, epoch)
    sizes = sizes.copy()
    sizes[:, 2:4] = encoded.crop_offsets
    return encoded.latents, sizes


def _places(source: Source, epoch: int, step: int) -> Iterator[tuple[EpochOrder, int]]:
    """Each step to come: its epoch's order and its number there."""
    num_empty = 0
    while num_empty < MAX_EMPTY_EPOCHS:
        order = epoch_plan(source.rows.order, source.order, epoch)
        # One row at half a repeat has an epoch without steps now and then; that is no error.
        num_empty = 0 if order.num_steps else num_empty + 1
        for number in range(step, order.num_steps):
            yield order, number
        epoch, step = epoch + 1, 0
    needed = source.order.batch_size * source.order.step_size
    raise ValueError(
        f"no epoch has a complete optimizer step of {needed} samples: there are "
        f"{len(source.rows.order.bucket)} rows in {len(source.rows.buckets)} buckets. Use "
        'data.remainder = "repeat", a smaller train.batch_size or more data (concepts with '
        "repeats or samples_per_epoch of 0 train nothing)."
    )


def _text_refs(
    rows: Rows, item: Mapping[str, Any], draws: Draws, epoch: int, position: int
) -> "Mapping[str, ItemRef]":
    """Text encoder to the item of the prompt that this entry trains on."""
    prompts = len(item["prompts"])
    if not prompts or uniform(draws.seed, "dropout", epoch, position) < draws.caption_dropout:
        return rows.unconditional
    choice = int(uniform(draws.seed, "prompt", epoch, position) * prompts)
    refs = {t["encoder"]: text_ref(t) for t in item["texts"] if t["prompt"] == choice}
    return {encoder: refs[encoder] for encoder in rows.unconditional}


def _timestep(draws: Draws, epoch: int, position: int) -> int:
    u = uniform(draws.seed, "timestep", epoch, position)
    return TIMESTEPS[draws.timesteps](u, draws.num_timesteps)


def _read_texts(reader: "ItemReader", refs: "Sequence[ItemRef]") -> "dict[str, Tensor]":
    """Field to (B, ...); rows of a batch often share a prompt, which is read once."""
    distinct = {ref: number for number, ref in enumerate(dict.fromkeys(refs))}
    fields: dict[str, Tensor] = reader.read_stacked(list(distinct))
    if len(distinct) == len(refs):
        return fields
    places = [distinct[ref] for ref in refs]
    return {name: value[places] for name, value in fields.items()}
