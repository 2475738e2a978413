"""Latents: the VAE's mean of every kept sample, stored unscaled; none without latent caching."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_json, hexkey
from storage.records import GREY, LOCATION
from storage.shards import ShardWriter
from tasks.arrow import with_matches
from tasks.config.models import DataConfig
from tasks.encode.devices import batch_size, encode_device, num_encoders, torch_dtype
from tasks.encode.holes import LATENTS, encode_fields, grey_groups, holed, masks_of, with_holes
from tasks.encode.weights import model_source, weights_digest
from tasks.encode.workers import Group, Item, encode_groups, encode_items
from tasks.families import get_family
from tasks.families.vae import EncodePixels, load_vae_encoder
from tasks.files.reading import SourceChangedError, num_threads, thread_map
from tasks.files.sources import decoded
from tasks.imaging.decode import ImageError
from tasks.imaging.jobs import SampleJob, sample_jobs
from tasks.imaging.sample_pixels import cut_samples
from tasks.imaging.samples import kept_samples
from tasks.stage import Checked, Context, Rejection, Report, Stage, Tables, Wanted, compare

if TYPE_CHECKING:
    import torch

VERSION = 1
ON_ONE_CORE_BYTES = 4 * 2**20
"""Sources with more pixels to encode are shared by all cores: one core would be busy with the tiles
of a large photo for minutes, and nothing of it be committed meanwhile."""
AHEAD_BYTES = 64 * 2**20
"""Sources with more pixels to encode are cut while they are encoded, not before."""


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per kept sample; its key is the sample_id. Without latent caching there are none.

    What an inpainting model takes besides, and how such items are named, is in `holes.py`.
    """
    facts: dict[str, Any] = {"stage": "latents", "version": VERSION}
    samples = kept_samples(upstream["crops"])
    if context.config.data.latent_caching:
        facts |= _encoding(context)
    else:
        samples = samples.slice(0, 0)
    if get_family(context.config.model.family).inpaints:
        samples = with_holes(samples, upstream["masks"])
    stage_id = hexkey(digest_json("stage", facts))
    return Wanted(stage_id, samples, {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Samples encoded before, under whatever name or concept, are not encoded again."""
    masked = "mask, its " if "mask_id" in wanted.table.column_names else ""
    return compare(
        context,
        "latents",
        wanted,
        committed=context.committed("latents", wanted.stage_id, ["key"]),
        bad=context.rejected("latents", wanted.stage_id),
        changed_reason=f"the source, its {masked}geometry or its augmentation changed",
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Decodes each source once, cuts and augments its samples and encodes them.

    Samples whose latent is not finite are rejected.
    """
    data, store = context.config.data, context.config.store
    device = encode_device()
    encode = encode_fields(vae_encoder(context, device))
    job_of_key = {
        key: job for job in sample_jobs(missing) for keys in job.samples.values() for key in keys
    }
    with ShardWriter(
        context.store, "latents", wanted.stage_id, flush_seconds=store.flush_seconds
    ) as writer:
        threads, encoders = num_threads(data.threads), num_encoders(device)
        size = batch_size(data.encode_batch_size, device)
        if size == 1 and device.type == "cpu":
            sources = item_groups(missing, data, ON_ONE_CORE_BYTES)
            encoded = encode_groups(sources, encode, encoders=encoders)
        else:
            sources = item_groups(missing, data, AHEAD_BYTES)
            items = chain.from_iterable(thread_map(lambda cut: cut(), sources, threads))
            encoded = encode_items(items, encode, batch_size=size, encoders=encoders)
        for key, fields in encoded:
            if all(fields[name].isfinite().all() for name in LATENTS if name in fields):
                writer.add(key, fields)
            else:
                bad = _rejection(data.encode_dtype, key, job_of_key[key])
                context.reject("latents", wanted.stage_id, [bad])
            report(1)


def manifest(context: Context, checked: Checked) -> pa.Table:
    """The kept samples with where their latents are, and so the grey images, if there are any."""
    table = checked.wanted.table
    items = context.committed("latents", checked.wanted.stage_id)
    table = with_matches(table, items, {f"latent_{name}": name for name in LOCATION})
    return table if context.dry_run else table.filter(pc.is_valid(table["latent_offset"]))


def vae_encoder(context: Context, device: "torch.device") -> EncodePixels:
    """The encoder of the configured model's VAE, in the configured dtype."""
    family = get_family(context.config.model.family)
    dtype = torch_dtype(context.config.data.encode_dtype)
    return load_vae_encoder(model_source(context, family), family, dtype, device)


def item_groups(missing: pa.Table, data: DataConfig, eager_bytes: int) -> Iterator[Group]:
    """The groups of `cut_sources` of missing items, with their holes, and the grey images."""
    masks = masks_of(missing)
    jobs = list(sample_jobs(missing.filter(pc.not_equal(missing["kind"], GREY))))
    sources = cut_sources(jobs, data, eager_bytes)
    return chain(grey_groups(missing), holed(jobs, sources, data, masks) if masks else sources)


def cut_sources(jobs: Iterable[SampleJob], data: DataConfig, eager_bytes: int) -> Iterator[Group]:
    """A function per source, for any thread, that gives (key, view, pixels).

    A list for up to `eager_bytes` of pixels, else an iterator that decodes its source when it is
    begun, so that the many tiles of a large photo are never all in memory, and no thread waits for
    the memory of a photo that waits for its turn. A source that vanished, changed or no longer
    decodes gives nothing: it stays missing.
    """

    def cut(job: SampleJob) -> Iterator[Item]:
        try:
            with decoded(job.path, job.source_id, data) as image:
                yield from cut_samples(image, job.samples)
        except (SourceChangedError, ImageError):
            return

    def group(job: SampleJob) -> list[Item] | Iterator[Item]:
        num_bytes = sum(
            3 * view.target[0] * view.target[1] * len(keys) for view, keys in job.samples.items()
        )
        return list(cut(job)) if num_bytes <= eager_bytes else cut(job)

    return (partial(group, job) for job in jobs)


def _encoding(context: Context) -> dict[str, str]:
    """What decides every latent besides its pixels."""
    family = get_family(context.config.model.family)
    return {
        "vae": weights_digest(context, model_source(context, family), ("vae",)),
        "dtype": context.config.data.encode_dtype,
        "mode": "mean",
    }


def _rejection(dtype: str, key: bytes, job: SampleJob) -> Rejection:
    advice = "is the image or the VAE damaged?" if dtype == "float32" else "try float32"
    reason = f"the latent is not finite with data.encode_dtype = {dtype}: {advice}"
    return Rejection(key, job.source_id, job.path, reason)


STAGE = Stage(
    name="latents",
    after=("crops", "masks"),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=512,
)
