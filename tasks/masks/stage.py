"""Masks: how much each latent cell of a sample counts, from mask files or transparency.

An item is one tensor `mask`, uint8 (1, h, w): one value per latent cell, 255 counts fully, 0 not at
all. Training divides by 255. A level is far below what a loss can tell, and uint8 takes half of
float16. A sample without an item counts whole.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import canonical_json, digest, digest_json, hexkey
from storage.records import LOCATION, K
from storage.shards import ShardWriter
from tasks.arrow import as_array, with_columns, with_matches
from tasks.families import get_family
from tasks.files.masks import Origin, read_mask
from tasks.files.reading import SourceChangedError, num_threads, thread_map
from tasks.imaging.augment import MOVES, Values
from tasks.imaging.header import ImageError
from tasks.imaging.jobs import by_view
from tasks.imaging.mask import cut_masks
from tasks.imaging.samples import kept_samples
from tasks.imaging.views import View
from tasks.masks.origins import read_origins
from tasks.stage import (
    Checked,
    Context,
    Rejection,
    Report,
    Stage,
    Tables,
    Wanted,
    compare,
    num_removed,
)

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

VERSION = 1
FIELD = "mask"


@dataclass(frozen=True, slots=True)
class MaskJob:
    """One source, where its mask is, and the samples that need it."""

    path: str
    source_id: bytes
    size: tuple[int, int]
    """Width and height of the source."""
    origin: Origin
    samples: dict[View, dict[bytes, Values]]


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per mask of a kept sample: of its view, its flip and turn, and the mask's content.

    None without latent caching: training makes its masks itself then.
    """
    config = context.config
    facts = {
        "stage": "masks",
        "version": VERSION,
        "latent_factor": get_family(config.model.family).latent_factor,
    }
    stage_id = hexkey(digest_json("stage", facts))
    samples = kept_samples(upstream["crops"])
    known = read_origins(context, upstream["scan"]) if config.data.latent_caching else {}
    names = zip(samples["concept"].to_pylist(), samples["path"].to_pylist(), strict=True)
    found = [known.get(name) for name in names]
    samples = samples.filter(pa.array([origin is not None for origin in found], pa.bool_()))
    origins = [origin for origin in found if origin is not None]
    ids = [origin.content_id for origin in origins]
    moves = map(_moves, samples["augmentation"].to_pylist())
    keys = map(_item_key, samples["view_id"].to_pylist(), moves, ids)
    pairs = map(_pair, samples["source_id"].to_pylist(), ids)
    table = with_columns(
        samples,
        key=pa.array(keys, K),
        mask_path=pa.array([origin.path for origin in origins], pa.string()),
        mask_id=pa.array(ids, pa.binary()),
        pair=pa.array(pairs, K),
        broken=pa.array(
            [origin.broken and _told(origin, origin.broken) for origin in origins], pa.string()
        ),
    )
    return Wanted(stage_id, table, {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Masks made before are not made again; a bad mask file is bad for all samples of its image."""
    rejected = context.rejected("masks", wanted.stage_id)
    at = as_array(pc.index_in(wanted.table["pair"], as_array(rejected["key"])))
    reasons = pc.coalesce(wanted.table["broken"], rejected["reason"].take(at))
    bad = with_columns(wanted.table, reason=reasons).filter(pc.is_valid(reasons))
    checked = compare(
        context,
        "masks",
        wanted,
        committed=context.committed("masks", wanted.stage_id, ["key"]),
        bad=bad,
        changed_reason="the mask, the source or its geometry changed",
    )
    # The manifest's key is the sample_id: an edited mask or a renamed image removes nothing.
    previous = context.previous("masks")
    by_sample = with_columns(wanted.table, key=wanted.table["sample_id"])
    counts = replace(
        checked.counts,
        removed=0 if previous is None else num_removed(previous[1], by_sample),
        rejected=pc.count_distinct(bad["pair"]).as_py(),
    )
    return replace(checked, counts=counts)


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Reads each mask once and cuts it for its samples; one that cannot be used is quarantined."""
    data, store = context.config.data, context.config.store
    factor = get_family(context.config.model.family).latent_factor

    def made(job: MaskJob) -> tuple[MaskJob, list[tuple[bytes, "Pixels"]], str | None]:
        try:
            with read_mask(job.path, job.source_id, job.size, job.origin, data) as mask:
                return job, list(cut_masks(mask, job.samples, factor)), None
        except SourceChangedError:
            return job, [], None
        except ImageError as error:
            return job, [], str(error)

    with ShardWriter(
        context.store, "masks", wanted.stage_id, flush_seconds=store.flush_seconds
    ) as writer:
        for job, items, reason in thread_map(made, _jobs(missing), num_threads(data.threads)):
            for key, mask in items:
                writer.add(key, {FIELD: mask})
            if reason is not None:
                pair = _pair(job.source_id, job.origin.content_id)
                bad = Rejection(pair, job.source_id, job.path, _told(job.origin, reason))
                context.reject("masks", wanted.stage_id, [bad])
            report(sum(map(len, job.samples.values())))


def manifest(context: Context, checked: Checked) -> pa.Table:
    """Where the mask of each sample is, and what it was made of; `key` is the sample_id.

    Equal images in two concepts may have different masks: `concept` tells them apart.
    """
    table = checked.wanted.table
    items = context.committed("masks", checked.wanted.stage_id)
    places = {f"mask_{name}": name for name in LOCATION}
    table = with_matches(table, items, places)
    is_made = pc.is_valid(table["mask_offset"])
    is_bad = pc.is_in(table["key"], as_array(checked.bad["key"]))
    table = table.filter(pc.or_(is_made, pc.invert(is_bad)) if context.dry_run else is_made)
    names = ["concept", "logical", "mask_path", "mask_id", *places]
    return table.select(["sample_id", *names]).rename_columns(["key", *names])


def _jobs(missing: pa.Table) -> Iterator[MaskJob]:
    """The missing masks, grouped so that each is read once."""
    names = ("path", "source_id", "original_width", "original_height", "mask_path", "mask_id")
    for (path, source_id, width, height, mask_path, mask_id), rows in groupby(
        missing.to_pylist(), key=itemgetter(*names)
    ):
        origin = Origin(mask_id, mask_path)
        yield MaskJob(path, source_id, (width, height), origin, by_view(rows))


def _told(origin: Origin, reason: str) -> str:
    """A reason as people read it beside the image's path."""
    name = "its transparency" if origin.path is None else PurePosixPath(origin.path).name
    return f"its mask is left out, all of it counts: {name}: {reason}"


def _moves(augmentation: str | None) -> str:
    """What of a sample's augmentation moves its mask; colours leave it alone."""
    values = json.loads(augmentation or "{}")
    return canonical_json({name: values[name] for name in MOVES if name in values})


def _item_key(view_id: bytes, moves: str, mask_id: bytes) -> bytes:
    return digest("mask", view_id, moves, mask_id)


def _pair(source_id: bytes, mask_id: bytes) -> bytes:
    """The key of a rejection: a mask may fit one image and not another."""
    return digest("mask of", source_id, mask_id)


STAGE = Stage(
    name="masks",
    after=("scan", "crops"),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=1000,
)
