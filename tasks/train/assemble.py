"""Assemble: a micro-batch out of the store, with everything that is drawn for it.

Every draw has its own counter (`noise.py`), so a batch depends on nothing but its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.config.objectives import MaskedTraining, Noise, Timesteps
from tasks.epochs.entries import OrderSettings
from tasks.epochs.order import EpochOrder
from tasks.train.batch import Batch
from tasks.train.encoding import Encoder, encode_rows
from tasks.train.holes import read_with_holes
from tasks.train.noise import normal, offset_noise, perturbation, uniform
from tasks.train.objectives import Objective
from tasks.train.rows import Rows, item_ref, latent_ref, mask_ref
from tasks.train.timesteps import noise_share, shift_of

if TYPE_CHECKING:
    from torch import Tensor

    from storage.reading import ItemReader, ItemRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How the random draws of a batch are made."""

    seed: int
    objective: Objective
    timesteps: Timesteps = Timesteps()
    noise: Noise = Noise()
    mask: MaskedTraining = MaskedTraining()
    caption_dropout: float = 0.0
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    """Of the model: what a dynamic shift follows."""
    patch_cells: int = 1
    """Latent cells along an edge of one image token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Everything that batches are made of."""

    rows: Rows
    reader: "ItemReader"
    order: OrderSettings
    draws: Draws
    encoder: Encoder | None = None
    """Makes the latents of rows that have none."""
    cached_encoders: tuple[str, ...] = ("text_encoder_1",)
    """The text encoders whose output is read."""
    pins: bool = False
    """Whether batches are pinned for a GPU."""
    rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a batch with what was drawn for it."""

    row: int
    position: int
    """What its noise is drawn from: its place in the epoch."""
    prompt: int | None
    """Number of the prompt that it trains on; None is the empty one."""
    share: float
    """A uniform number in [0, 1) that its timestep is made of."""


def assemble(source: Source, order: EpochOrder, micro: int) -> Batch:
    """Reads and draws one micro-batch; a pure function of its arguments and the store."""
    chosen = order.rows[micro].tolist()
    first, draws, epoch = micro * len(chosen), source.draws, order.epoch
    items = source.rows.items.take(chosen).to_pylist()
    entries = [
        Entry(
            row=row,
            position=position,
            prompt=_choose_prompt(item["prompts"], draws, epoch, position),
            share=uniform(draws.seed, "timestep", epoch, position),
        )
        for position, (row, item) in enumerate(zip(chosen, items, strict=True), start=first)
    ]
    return make_batch(source, items, entries, epoch)


def make_batch(
    source: Source, items: Sequence[Mapping[str, Any]], entries: Sequence[Entry], epoch: int
) -> Batch:
    """The batch of rows of one bucket; `items` are their lines of `Rows.items`."""
    import torch

    rows, draws = source.rows, source.draws
    chosen = [entry.row for entry in entries]
    latents, sizes, holes = _latents(source, items, entries, epoch)
    shape = tuple(latents.shape[1:])
    noise, input_noise = _noise(draws, shape, epoch, [entry.position for entry in entries])
    return Batch(
        rows=tuple(chosen),
        epoch=epoch,
        position=entries[0].position,
        latents=latents,
        noise=noise,
        input_noise=input_noise,
        timesteps=_timesteps(draws, shape, [entry.share for entry in entries]),
        prompts=tuple(
            "" if entry.prompt is None else item["prompts"][entry.prompt]
            for item, entry in zip(items, entries, strict=True)
        ),
        texts={
            name: _read_texts(source.reader, _text_refs(rows, items, entries, name))
            for name in source.cached_encoders
        },
        sizes=sizes,
        weights=torch.from_numpy(rows.loss_weight[chosen]),
        is_prior=tuple(rows.is_prior[chosen].tolist()),
        masks=_masks(source, items, entries, shape, epoch),
        holes=holes,
    )


def _latents(
    source: Source, items: Sequence[Mapping[str, Any]], entries: Sequence[Entry], epoch: int
) -> "tuple[Tensor, Tensor, Tensor | None]":
    """Latents (B, C, h, w) and sizes (B, 6) of rows, and the holes for an inpainting model."""
    import torch

    rows = source.rows
    sizes = torch.from_numpy(rows.sizes[[entry.row for entry in entries]])
    if source.encoder is not None:
        encoded = encode_rows(source.encoder, items, epoch)
        # A fresh crop lies elsewhere.
        sizes[:, 2:4] = torch.tensor(encoded.crop_offsets)
        return encoded.latents, sizes, None
    refs = [latent_ref(item) for item in items]
    if rows.grey:
        grey = rows.grey[rows.buckets[rows.order.bucket[entries[0].row]]]
        whole = [_is_unmasked(source.draws, epoch, entry) for entry in entries]
        latents, holes = read_with_holes(source.reader, refs, grey, whole)
        return latents, sizes, holes
    (latents,) = source.reader.read_stacked(refs).values()
    return latents, sizes, None


def _noise(
    draws: Draws, shape: tuple[int, ...], epoch: int, positions: Sequence[int]
) -> "tuple[Tensor, Tensor]":
    """What the model must find, and what the latents are mixed with: (B, C, h, w) each."""
    noise = normal(shape, draws.seed, epoch, positions)
    if draws.noise.offset:
        noise = noise + draws.noise.offset * offset_noise(shape[0], draws.seed, epoch, positions)
    if not draws.noise.perturbation:
        return noise, noise
    more = draws.noise.perturbation * perturbation(shape, draws.seed, epoch, positions)
    return noise, noise + more


def _timesteps(draws: Draws, shape: tuple[int, ...], shares: Sequence[float]) -> "Tensor":
    import torch

    num_tokens = (shape[1] // draws.patch_cells) * (shape[2] // draws.patch_cells)
    shift = shift_of(draws.timesteps, draws.scheduler_config, num_tokens)
    dtype = torch.int64 if draws.objective.integer_timesteps else torch.float32
    values = [
        draws.objective.timestep(noise_share(share, draws.timesteps, shift)) for share in shares
    ]
    return torch.tensor(values, dtype=dtype)


def _masks(
    source: Source,
    items: Sequence[Mapping[str, Any]],
    entries: Sequence[Entry],
    shape: tuple[int, ...],
    epoch: int,
) -> "Tensor | None":
    """How much each latent cell counts, (B, 1, h, w) in 0..1; None when all of them do."""
    import torch

    if not source.draws.mask.enabled:
        return None
    masks = torch.ones(len(items), 1, *shape[1:])
    for mask, item, entry in zip(masks, items, entries, strict=True):
        place = mask_ref(item)
        if place is not None and not _is_unmasked(source.draws, epoch, entry):
            mask.copy_(source.reader.read_many([place])[0]["mask"] / 255)
    return masks


def _is_unmasked(draws: Draws, epoch: int, entry: Entry) -> bool:
    """Whether an entry trains without its mask: all of it counts, or is to be painted."""
    return uniform(draws.seed, "unmasked", epoch, entry.position) < draws.mask.unmasked_probability


def _choose_prompt(prompts: Sequence[str], draws: Draws, epoch: int, position: int) -> int | None:
    """Which of its prompts an entry trains on; None is the empty one."""
    if not prompts or uniform(draws.seed, "dropout", epoch, position) < draws.caption_dropout:
        return None
    return int(uniform(draws.seed, "prompt", epoch, position) * len(prompts))


def _text_refs(
    rows: Rows, items: Sequence[Mapping[str, Any]], entries: Sequence[Entry], encoder: str
) -> "list[ItemRef]":
    """Where each row's chosen prompt, as this encoder gave it, is stored."""
    return [
        rows.unconditional[encoder]
        if entry.prompt is None
        else next(
            item_ref(text)
            for text in item["texts"]
            if text["prompt"] == entry.prompt and text["encoder"] == encoder
        )
        for item, entry in zip(items, entries, strict=True)
    ]


def _read_texts(reader: "ItemReader", refs: "Sequence[ItemRef]") -> "dict[str, Tensor]":
    """Field to (B, ...); shorter texts are padded with zeros to the longest of the batch.

    Rows of a batch often share a prompt, which is read once.
    """
    distinct = {ref: number for number, ref in enumerate(dict.fromkeys(refs))}
    if len({ref.layout for ref in distinct}) == 1:
        fields: dict[str, Tensor] = reader.read_stacked(list(distinct))
    else:
        fields = _padded(reader.read_many(list(distinct)))
    if len(distinct) == len(refs):
        return fields
    places = [distinct[ref] for ref in refs]
    return {name: value[places] for name, value in fields.items()}


def _padded(texts: "Sequence[Mapping[str, Tensor]]") -> "dict[str, Tensor]":
    """Field to (B, T, ...) where the texts have up to T tokens; the mask of padding is 0 too."""
    from torch.nn.utils.rnn import pad_sequence

    return {name: pad_sequence([text[name] for text in texts], True) for name in texts[0]}
