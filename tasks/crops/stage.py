"""Crops: the views of every source, each measured on the pixels that will be trained.

Thresholds are applied to the stored measurements when the manifest is made, so changing one
decodes nothing.
"""

from collections.abc import Callable, Iterator, Set
from dataclasses import replace
from itertools import groupby
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import canonical_json, digest_json, hexkey
from storage.records import CROPS, K
from storage.shards import RecordWriter
from tasks.arrow import as_array, with_columns, with_matches
from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.crops.drops import DROPPED, dropped_views
from tasks.families import get_family
from tasks.files.reading import SourceChangedError, num_threads, thread_map
from tasks.files.sources import decoded
from tasks.imaging.augment import draw_augmentation
from tasks.imaging.blank import is_blank, measure, resized_luma
from tasks.imaging.decode import DECODER, IMAGING_VERSION, ImageError
from tasks.imaging.jobs import SourceJob, source_jobs
from tasks.imaging.layout import Placed, concept_layouts, place_views
from tasks.imaging.views import cut_views, sample_id, view_id
from tasks.stage import (
    Checked,
    Context,
    Rejection,
    Report,
    Stage,
    Tables,
    Wanted,
    compare,
)
from tasks.thumbnails.stored import add_thumbnail, thumbnail_writer

R = TypeVar("R")
VERSION = 1
GEOMETRY = pa.schema(
    [
        ("key", K),
        ("logical", pa.string()),
        ("group", pa.string()),
        ("concept", pa.string()),
        ("path", pa.string()),
        ("source_id", K),
        ("kind", pa.string()),
        ("scale", pa.float32()),
    ]
    + [
        (name, pa.int32())
        for name in (
            *("left", "top", "width", "height", "resized_width", "resized_height"),
            *("bucket_width", "bucket_height", "original_width", "original_height"),
            *("crop_left", "crop_top"),
        )
    ]
    + [(name, pa.int16()) for name in ("resolution_index", "variation", "phase", "num_phases")]
)


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per view of a source; equal files of one concept are one source."""
    config = context.config
    family = get_family(config.model.family)
    layouts = concept_layouts(config, family.size_multiple)
    columns: dict[str, list[Any]] = {name: [] for name in GEOMETRY.names}
    seen: set[tuple[str, bytes]] = set()
    names = ["concept", "path", "source_id", "width", "height"]
    sources = upstream["prompts"].select(names).to_pydict()
    for concept, path, source_id, width, height in zip(*sources.values(), strict=True):
        if (concept, source_id) in seen:
            continue
        seen.add((concept, source_id))
        layout = layouts[concept]
        for placed in place_views(layout, source_id, width, height):
            values = _geometry(concept, path, source_id, placed, (width, height))
            phases = layout.grid_phases if placed.phase is not None else 1
            for name, value in zip(GEOMETRY.names, (*values, phases), strict=True):
                columns[name].append(value)
    facts = {
        "stage": "crops",
        "version": VERSION,
        "imaging_version": IMAGING_VERSION,
        "decoder": DECODER,
    }
    stage_id = hexkey(digest_json("stage", facts))
    return Wanted(stage_id, pa.table(columns, schema=GEOMETRY), {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Views measured before are not decoded again; a source that cannot be decoded is bad."""
    rejected = context.rejected("crops", wanted.stage_id)
    at = as_array(pc.index_in(wanted.table["source_id"], as_array(rejected["source_id"])))
    bad = with_columns(wanted.table, reason=rejected["reason"].take(at)).filter(pc.is_valid(at))
    checked = compare(
        context,
        "crops",
        wanted,
        committed=context.committed("crops", wanted.stage_id, ["key"]),
        bad=bad,
        changed_reason="the source or its geometry changed",
    )
    sources = pc.count_distinct(bad["source_id"]).as_py()
    return replace(checked, counts=replace(checked.counts, rejected=sources))


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Decodes each source once, cuts its missing views and measures them."""
    data = context.config.data

    def measured(job: SourceJob) -> tuple[SourceJob, list[dict[str, Any]], str | None]:
        rows = []
        try:
            with decoded(job.path, job.source_id, data) as image:
                for view, luma in cut_views(image, list(job.views), resized_luma):
                    std, edges = measure(luma)
                    rows.append({"key": job.views[view], "luma_std": std, "edge_share": edges})
                add_thumbnail(thumbnails, context.store, job.source_id, image)
        except SourceChangedError:
            return job, [], None
        except ImageError as error:
            return job, [], str(error)
        return job, rows, None

    flush_seconds = context.config.store.flush_seconds
    with (
        thumbnail_writer(context.store, flush_seconds) as thumbnails,
        RecordWriter(
            context.store, "crops", wanted.stage_id, CROPS, flush_seconds=flush_seconds
        ) as writer,
    ):
        for job, rows, reason in _on_workers(measured, missing, context.config):
            for row in rows:
                writer.add(row)
            if reason is not None:
                bad = Rejection(job.source_id, job.source_id, job.path, reason)
                context.reject("crops", wanted.stage_id, [bad])
            report(len(job.views))


def _on_workers(
    measured: Callable[[SourceJob], R], missing: pa.Table, config: Config
) -> Iterator[R]:
    """What `measured` gives for every source, each concept on as many threads as it asks for."""
    workers = {concept.name: _num_workers(concept, config) for concept in config.concepts}
    start = 0
    for number, names in groupby(missing["concept"].to_pylist(), key=workers.__getitem__):
        rows = missing.slice(start, sum(1 for _ in names))
        start += rows.num_rows
        yield from thread_map(measured, source_jobs(rows), number)


def _num_workers(concept: Concept, config: Config) -> int:
    crops = concept.image.detail_crops
    return (crops.enabled and crops.parallel_workers) or num_threads(config.data.threads)


def manifest(context: Context, checked: Checked) -> pa.Table:
    """One row per view and variation with the view's measurements and the sample it gives.

    `dropped` says why a view is not trained, or is null; `certain` is false where the pixels have
    not been seen and a threshold may still drop the tile; `augmentation` is JSON, or null.
    """
    measured = context.committed("crops", checked.wanted.stage_id)
    table = checked.wanted.table
    table = with_matches(table, measured, {name: name for name in ("luma_std", "edge_share")})
    if not context.dry_run:
        table = table.filter(pc.is_valid(table["luma_std"]))
    elif checked.bad.num_rows:
        table = table.filter(pc.invert(pc.is_in(table["key"], as_array(checked.bad["key"]))))
    concepts = {concept.name: concept for concept in context.config.concepts}
    verdicts = list(_verdicts(table, concepts, dropped_views(context.store)))
    table = with_columns(
        table,
        dropped=pa.array([reason for reason, _ in verdicts], pa.string()),
        certain=pa.array([certain for _, certain in verdicts], pa.bool_()),
    )
    return _samples(table, context.config)


def _samples(views: pa.Table, config: Config) -> pa.Table:
    """The views with their augmentation drawn: a tile once per variation of its concept."""
    family = get_family(config.model.family)
    concepts = {concept.name: concept for concept in config.concepts}
    layouts = concept_layouts(config, family.size_multiple)
    rows: list[int] = []
    numbers: list[int] = []
    values: list[dict[str, Any]] = []
    columns = views.select(["concept", "key", "variation"]).to_pydict().values()
    for row, (name, view, variation) in enumerate(zip(*columns, strict=True)):
        known = range(layouts[name].variations) if variation is None else [variation]
        image, varied = concepts[name].image, concepts[name].type != "validation"
        for number in known:
            drawn = draw_augmentation(image, config.data.seed, view, number) if varied else {}
            rows.append(row)
            numbers.append(number)
            values.append(drawn)
    table = views.take(pa.array(rows, pa.int64()))
    keys = zip(table["key"].to_pylist(), values, strict=True)
    return with_columns(
        table,
        variation=pa.array(numbers, pa.int16()),
        augmentation=pa.array(
            [canonical_json(one) if one else None for one in values], pa.string()
        ),
        sample_id=pa.array([sample_id(view, drawn) for view, drawn in keys], K),
    )


def _verdicts(
    table: pa.Table, concepts: dict[str, Concept], by_people: Set[bytes]
) -> Iterator[tuple[str | None, bool]]:
    columns = table.select(["key", "concept", "kind", "luma_std", "edge_share"]).to_pydict()
    for view, concept, kind, std, edges in zip(*columns.values(), strict=True):
        if view in by_people:
            yield DROPPED, True
            continue
        crops = concepts[concept].image.detail_crops
        tested = kind != "full" and (crops.blank_std_threshold or crops.blank_edge_threshold)
        if not tested or std is None:
            yield None, not tested
        else:
            limits = (crops.blank_std_threshold, crops.blank_edge_threshold)
            yield is_blank(std, edges, *limits), True


def _geometry(
    concept: str, path: str, source_id: bytes, placed: Placed, size: tuple[int, int]
) -> tuple[Any, ...]:
    """The columns of GEOMETRY but the last one."""
    view = placed.view
    where = f"{view.kind}|{placed.resolution_index}"
    if view.kind != "full":
        where += f"|{view.scale:g}|{view.rect[0]},{view.rect[1]}"
    if placed.variation:
        where += f"|variation {placed.variation}"
    return (
        view_id(source_id, view),
        f"{concept}|{path}|{where}",
        path,
        concept,
        path,
        source_id,
        view.kind,
        view.scale,
        *view.rect,
        *view.resized,
        *view.target,
        *size,
        placed.crop_left,
        placed.crop_top,
        placed.resolution_index,
        placed.variation,
        placed.phase,
    )


STAGE = Stage(
    name="crops",
    after=("prompts",),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=500,
)
