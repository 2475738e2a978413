"""Latents: the VAE's mean of every kept sample, stored unscaled."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_json, hexkey
from storage.records import LOCATION
from storage.shards import ShardWriter
from tasks.encode.devices import batch_size, encode_device, num_encoders, torch_dtype
from tasks.encode.weights import model_source, weights_digest
from tasks.encode.workers import Encode, Group, Item, encode_groups, encode_items
from tasks.families import get_family
from tasks.families.loading import load_component
from tasks.families.vae import encode_latents
from tasks.files.reading import SourceChangedError, num_threads, read_source, thread_map
from tasks.imaging.decode import ImageError, decode
from tasks.imaging.jobs import SourceJob, source_jobs
from tasks.imaging.samples import kept_samples
from tasks.imaging.views import cut_views
from tasks.stage import (
    Checked,
    Context,
    Rejection,
    Report,
    Stage,
    Tables,
    Wanted,
    as_array,
    compare,
    with_columns,
)

if TYPE_CHECKING:
    import torch

    from tasks.imaging.decode import Pixels

VERSION = 1
FIELD = "latent"
ON_ONE_CORE_BYTES = 4 * 2**20
"""Sources with more pixels to encode are shared by all cores: one core would be busy with the tiles
of a large photo for minutes, and nothing of it be committed meanwhile."""
AHEAD_BYTES = 64 * 2**20
"""Sources with more pixels to encode are cut while they are encoded, not before."""


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per kept view; its key is the sample_id."""
    family = get_family(context.config.model.family)
    facts = {
        "stage": "latents",
        "version": VERSION,
        "vae": weights_digest(context, model_source(context, family), ("vae",)),
        "dtype": context.config.data.encode_dtype,
        "mode": "mean",
    }
    stage_id = hexkey(digest_json("stage", facts))
    return Wanted(stage_id, kept_samples(upstream["crops"]), {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Samples encoded before, under whatever name or concept, are not encoded again."""
    checked = compare(
        context,
        "latents",
        wanted,
        committed=context.committed("latents", wanted.stage_id, ["key"]),
        bad=context.rejected("latents", wanted.stage_id),
        changed_reason="the source or its geometry changed",
    )
    exact = bool(pc.all(checked.missing["certain"], min_count=0).as_py())
    return replace(checked, counts=replace(checked.counts, exact=exact))


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Decodes each source once, cuts its samples and encodes them; non-finite ones are rejected."""
    data, store = context.config.data, context.config.store
    device = encode_device()
    encode = vae_encoder(context, device)
    job_of_key = {key: job for job in source_jobs(missing) for key in job.views.values()}
    with ShardWriter(
        context.store, "latents", wanted.stage_id, flush_seconds=store.flush_seconds
    ) as writer:
        threads, encoders = num_threads(data.threads), num_encoders(device)
        size = batch_size(data.encode_batch_size, device)
        if size == 1 and device.type == "cpu":
            sources = cut_sources(source_jobs(missing), data.max_pixels, ON_ONE_CORE_BYTES)
            encoded = encode_groups(sources, encode, encoders=encoders)
        else:
            sources = cut_sources(source_jobs(missing), data.max_pixels, AHEAD_BYTES)
            items = chain.from_iterable(thread_map(lambda cut: cut(), sources, threads))
            encoded = encode_items(items, encode, batch_size=size, encoders=encoders)
        for key, latent in encoded:
            if latent.isfinite().all():
                writer.add(key, {FIELD: latent})
            else:
                bad = _rejection(data.encode_dtype, key, job_of_key[key])
                context.reject("latents", wanted.stage_id, [bad])
            report(1)


def manifest(context: Context, checked: Checked) -> pa.Table:
    """The kept samples with where their latents are; `key` is the sample_id."""
    table = checked.wanted.table
    items = context.committed("latents", checked.wanted.stage_id)
    at = as_array(pc.index_in(table["key"], as_array(items["key"])))
    location = {f"latent_{name}": items[name].take(at) for name in LOCATION}
    table = with_columns(table, **location)
    return table if context.dry_run else table.filter(pc.is_valid(table["latent_offset"]))


def vae_encoder(context: Context, device: "torch.device") -> Encode:
    """A function from pixels of one shape to their latents (C, h, w) in the configured dtype."""
    import numpy as np
    import torch

    family = get_family(context.config.model.family)
    dtype = torch_dtype(context.config.data.encode_dtype)
    vae = load_component(model_source(context, family), family, "vae", dtype, device)
    vae = vae.to(memory_format=torch.channels_last)

    def encode(images: "list[Pixels]") -> list["torch.Tensor"]:
        # (B, H, W, 3) seen as (B, 3, H, W): channels-last memory, which convolutions like best.
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return list(encode_latents(vae, pixels.to(device)).to(dtype).cpu())

    return encode


def cut_sources(jobs: Iterable[SourceJob], max_pixels: int, eager_bytes: int) -> Iterator[Group]:
    """A function per source, for any thread, that decodes it and gives (key, view, pixels).

    A list for up to `eager_bytes` of pixels, else an iterator, so that the many tiles of a large
    photo are never all in memory. A source that vanished, changed or no longer decodes gives
    nothing: it stays missing.
    """

    def cut(job: SourceJob) -> list[Item] | Iterator[Item]:
        try:
            image = decode(read_source(job.path, job.source_id), max_pixels=max_pixels)
        except (SourceChangedError, ImageError):
            return []
        views = list(job.views)
        items = ((job.views[view], view, pixels) for view, pixels in cut_views(image, views))
        num_bytes = sum(3 * view.target[0] * view.target[1] for view in views)
        return list(items) if num_bytes <= eager_bytes else items

    return (partial(cut, job) for job in jobs)


def _rejection(dtype: str, key: bytes, job: SourceJob) -> Rejection:
    advice = "is the image or the VAE damaged?" if dtype == "float32" else "try float32"
    reason = f"the latent is not finite with data.encode_dtype = {dtype}: {advice}"
    return Rejection(key, job.source_id, job.path, reason)


STAGE = Stage(
    name="latents",
    after=("crops",),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=512,
)
