"""Encoding: the latents of a micro-batch from the images themselves, where none are cached.

Each epoch is the variation of its own number: other jitter, other augmentation, drawn by the same
functions as when latents are cached. So epoch 0 trains what `image_variations = 1` would cache: the
same pixels always, and the same latents but for the rounding of the VAE, which depends on the
device, the batch and the number of cores.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from storage.versions import Version
from tasks.config.concepts import Concept
from tasks.config.models import Config, DataConfig
from tasks.families.base import Family
from tasks.families.loading import ModelSource
from tasks.families.vae import EncodePixels, load_vae_encoder
from tasks.files.reading import SourceChangedError, num_threads
from tasks.files.sources import decoded
from tasks.imaging.augment import Values, draw_augmentation
from tasks.imaging.decode import ImageError
from tasks.imaging.jobs import row_view
from tasks.imaging.layout import ANY_RESOLUTION, Layout, Placed, concept_layouts, full_view
from tasks.imaging.sample_pixels import sample_pixels
from tasks.imaging.views import view_id

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tasks.imaging.decode import Pixels

GPU_BATCH = 4
"""Images per VAE call on a GPU when nothing is set; a CPU is faster with one at a time."""
CPU_THREADS = 2
"""Threads that prepare batches where the VAE needs the cores itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """How rows without a latent become latents."""

    concepts: Mapping[str, Concept]
    layouts: Mapping[str, Layout]
    """The geometry of each concept, as the dataset was prepared."""
    seed: int
    """Of prepared draws: data.seed when the dataset was prepared."""
    data: DataConfig
    """How to decode, as this run says."""
    encode: EncodePixels
    batch_size: int
    """Images per call of `encode`."""
    threads: int
    """Threads that may decode and encode at the same time."""
    turn: AbstractContextManager[Any]
    """Held while encoding: one call at a time is what a GPU has memory for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What was encoded of a micro-batch of B rows."""

    latents: "Tensor"
    """(B, C, h, w), unscaled."""
    crop_offsets: "list[tuple[int, int]]"
    """Top and left of each view in its resized source, in pixels."""


def build_encoder(
    version: Version, config: Config, family: Family, model: ModelSource, device: "torch.device"
) -> Encoder:
    """The encoder of a dataset version: its settings of pictures, and the run's VAE."""
    import torch

    made = version.meta["config"]
    prepared = Config.model_validate({name: made[name] for name in ("model", "data", "concepts")})
    dtype, on_cpu = getattr(torch, prepared.data.encode_dtype), device.type == "cpu"
    return Encoder(
        concepts={concept.name: concept for concept in prepared.concepts},
        layouts=concept_layouts(prepared, family.size_multiple),
        seed=prepared.data.seed,
        data=config.data,
        encode=load_vae_encoder(model, family, dtype, device),
        batch_size=config.data.encode_batch_size or (1 if on_cpu else GPU_BATCH),
        threads=CPU_THREADS if on_cpu else num_threads(config.data.threads),
        turn=nullcontext() if on_cpu else Lock(),
    )


def encode_rows(encoder: Encoder, items: Sequence[Mapping[str, Any]], epoch: int) -> Encoded:
    """The latents of rows of one bucket in one epoch; a pure function of its arguments and files.

    Raises:
        ValueError: a file vanished, changed or no longer decodes, or a latent is not finite.
    """
    import torch

    placed = [epoch_view(encoder, item, epoch) for item in items]
    images = [
        _pixels(encoder, item, place, epoch) for item, place in zip(items, placed, strict=True)
    ]
    latents: list[Tensor] = []
    for start in range(0, len(images), encoder.batch_size):
        with encoder.turn:
            latents += encoder.encode(images[start : start + encoder.batch_size])
    for item, latent in zip(items, latents, strict=True):
        if not latent.isfinite().all():
            dtype = str(latent.dtype).removeprefix("torch.")
            advice = "is the image or the VAE damaged?" if dtype == "float32" else "try float32"
            raise ValueError(
                f"the latent of {item['path']} is not finite with data.encode_dtype = {dtype}: "
                f"{advice}"
            )
    return Encoded(
        latents=torch.stack(latents),
        crop_offsets=[(place.crop_top, place.crop_left) for place in placed],
    )


def epoch_view(encoder: Encoder, item: Mapping[str, Any], epoch: int) -> Placed:
    """The view of a row in an epoch: a full image moves with its jitter, a tile stays."""
    if item["kind"] != "full":
        return Placed(row_view(dict(item)), ANY_RESOLUTION, item["crop_left"], item["crop_top"])
    size = (item["original_width"], item["original_height"])
    layout, number = encoder.layouts[item["concept"]], item["resolution_index"]
    placed = full_view(
        layout, number, item["source_id"], size, _variation(encoder, item["concept"], epoch)
    )
    bucket = (item["bucket_width"], item["bucket_height"])
    if placed.view.target != bucket:
        raise ValueError(
            f"{item['path']} was prepared for bucket {bucket} and now falls into "
            f"{placed.view.target}: another version of Tilewright prepared this dataset. Run "
            "`tilewright prepare` again."
        )
    return placed


def _variation(encoder: Encoder, concept: str, epoch: int) -> int:
    """Validation is the same in every epoch."""
    return 0 if encoder.concepts[concept].type == "validation" else epoch


def _pixels(encoder: Encoder, item: Mapping[str, Any], placed: Placed, epoch: int) -> "Pixels":
    path, source_id = item["path"], item["source_id"]
    try:
        with decoded(path, source_id, encoder.data) as image:
            return sample_pixels(image, placed.view, _values(encoder, item, placed, epoch))
    except (SourceChangedError, ImageError) as error:
        what = str(error) if isinstance(error, SourceChangedError) else f"{path}: {error}"
        raise ValueError(
            f"{what}. With data.latent_caching = false training reads the images themselves: put "
            "the file back as it was, or run `tilewright prepare` and start a new run."
        ) from error


def _values(encoder: Encoder, item: Mapping[str, Any], placed: Placed, epoch: int) -> Values:
    concept = encoder.concepts[item["concept"]]
    if concept.type == "validation":
        return {}
    view_key = view_id(item["source_id"], placed.view)
    return draw_augmentation(concept.image, encoder.seed, view_key, epoch)
