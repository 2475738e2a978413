"""Scan: every image of every concept, known by the hash of its bytes and measured by its header."""

import sys
import time
from dataclasses import replace
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest, digest_json, hexkey
from storage.hashcache import append_hash_cache
from storage.records import HASH_CACHE
from tasks.arrow import as_array, count_true, with_columns
from tasks.config.concepts import Concept
from tasks.files.hashing import hash_files, look_up, stat_key, stat_table, trusted
from tasks.files.listing import FileStat, is_image, list_files
from tasks.files.reading import num_threads
from tasks.imaging.decode import ImageError, probe
from tasks.imaging.mask import MASK_ENDING
from tasks.stage import Checked, Context, Rejection, Report, Stage, Tables, Wanted, compare

VERSION = 1
HEADER = ("width", "height", "format", "mode", "orientation", "frames")
SIDECAR_SUFFIXES = (".txt", ".caption")
"""The endings of a caption beside an image; an earlier one wins."""


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per image file of an enabled concept; its key is its stat."""
    tables = [_concept_files(concept) for concept in context.config.concepts if concept.enabled]
    table = pa.concat_tables(tables)
    table = with_columns(table, key=stat_key(table), logical=table["path"], group=table["path"])
    facts = {"stage": "scan", "version": VERSION}
    stage_id = hexkey(digest_json("stage", facts))
    return Wanted(stage_id, table, {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Files whose stat is in the hash cache need not be read; what it says of them is added."""
    cached = look_up(wanted.table, trusted(context.hash_cache("image")))
    reasons = _reasons(cached, context.config.data.max_pixels)
    bad = with_columns(wanted.table, reason=reasons).filter(pc.is_valid(reasons))
    checked = compare(
        context,
        "scan",
        wanted,
        committed=wanted.table.filter(pc.is_valid(cached["content_id"])),
        bad=bad,
        changed_reason="the file changed",
    )
    moved = count_true(pc.not_equal(cached["path"], wanted.table["path"]))
    removed = max(0, checked.counts.removed - moved)
    return replace(
        checked,
        wanted=replace(wanted, table=_described(wanted.table, cached, reasons)),
        counts=replace(checked.counts, removed=removed),
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Hashes files, reads their headers, and appends what was found to the hash cache."""
    rows: list[dict[str, Any]] = []
    since = time.monotonic()
    try:
        for row in _hash(context, missing, settle=True):
            rows.append(row)
            report(1)
            if time.monotonic() - since >= context.config.store.flush_seconds:
                _commit(context, wanted, rows)
                rows, since = [], time.monotonic()
    finally:
        _commit(context, wanted, rows)


def manifest(context: Context, checked: Checked) -> pa.Table:
    """The good sources: concept, path, source_id, size and format; sidecar's and mask's stat."""
    table = checked.wanted.table
    if context.dry_run and checked.missing.num_rows:
        rows = trusted(context.hash_cache("image"))
        ahead = list(_hash(context, checked.missing, settle=False))
        rows = pa.concat_tables([rows, pa.Table.from_pylist(ahead, schema=rows.schema)])
        found = look_up(table, rows)
        table = _described(table, found, _reasons(found, context.config.data.max_pixels))
    good = pc.and_(pc.is_valid(table["source_id"]), pc.is_null(table["reason"]))
    return table.filter(good).drop_columns(["reason"])


def _described(files: pa.Table, found: pa.Table, reasons: pa.Array) -> pa.Table:
    """The files with their source_id, their header, and the reason why one cannot be used."""
    header = {name: found[name] for name in HEADER}
    return with_columns(files, source_id=found["content_id"], **header, reason=reasons)


def _reasons(cached: pa.Table, max_pixels: int) -> pa.Array:
    """Why a cached file cannot be used, or null. The pixel limit is no property of a file."""
    pixels = pc.multiply(pc.cast(cached["width"], pa.int64()), cached["height"])
    too_large = pc.fill_null(pc.greater(pixels, max_pixels), False)
    told = pc.binary_join_element_wise(
        pc.cast(pixels, pa.string()), f"pixels are more than data.max_pixels = {max_pixels}", " "
    )
    return as_array(pc.coalesce(cached["error"], pc.if_else(too_large, told, None)))


def _concept_files(concept: Concept) -> pa.Table:
    files = list_files(concept.path, recursive=concept.include_subdirectories)
    images = stat_table([file for file in files if is_image(file.path)])
    return with_columns(
        images,
        concept=pa.repeat(pa.scalar(concept.name), images.num_rows),
        **_beside("sidecar", images, files, SIDECAR_SUFFIXES),
        **_beside("mask", images, files, (MASK_ENDING,)),
    )


def _beside(
    name: str, images: pa.Table, files: list[FileStat], endings: tuple[str, ...]
) -> dict[str, pa.Array]:
    """The stat of the file beside each image: its stem and the first of `endings` that is there.

    Where there is none its path is empty.
    """
    there = [file for file in files if file.path.endswith(endings)]
    of_stem = {
        file.path.removesuffix(ending): file
        for ending in reversed(endings)
        for file in there
        if file.path.endswith(ending)
    }
    table = stat_table([FileStat("", 0, 0, 0, 0, ""), *of_stem.values()])
    at: pa.Array = pa.repeat(pa.scalar(0, pa.int32()), images.num_rows)
    if of_stem:
        stems = pc.replace_substring_regex(images["path"], r"\.[^./]*$", "")
        found = pc.index_in(as_array(stems), pa.array(of_stem, pa.string()))
        at = pc.fill_null(pc.add(found, 1), 0)
    return {f"{name}_{column}": as_array(table[column]).take(at) for column in table.column_names}


def _hash(context: Context, missing: pa.Table, *, settle: bool) -> Any:
    data = context.config.data
    files = [FileStat(**row) for row in missing.select(list(FileStat._fields)).to_pylist()]

    def describe(content: bytes | BinaryIO) -> dict[str, Any]:
        try:
            header = probe(content, max_pixels=sys.maxsize)
        except ImageError as error:
            return {"error": str(error)}
        return {name: getattr(header, name) for name in HEADER}

    return hash_files(files, "image", describe, threads=num_threads(data.threads), settle=settle)


def _commit(context: Context, wanted: Wanted, rows: list[dict[str, Any]]) -> None:
    append_hash_cache(context.store, rows)
    table = pa.Table.from_pylist(rows, schema=HASH_CACHE)
    reasons = _reasons(table, context.config.data.max_pixels).to_pylist()
    rejections = [
        Rejection(
            key=row["content_id"] or digest("path", row["path"]),
            source_id=row["content_id"],
            path=row["path"],
            reason=reason,
        )
        for row, reason in zip(rows, reasons, strict=True)
        if reason is not None
    ]
    context.reject("scan", wanted.stage_id, rejections)


STAGE = Stage(
    name="scan",
    after=(),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=2000,
)
