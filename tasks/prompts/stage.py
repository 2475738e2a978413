"""Prompts: the texts that each source may train on, from sidecars, file names or one text file."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from storage.digest import digest, digest_json, hexkey
from storage.hashcache import append_hash_cache
from storage.records import PROMPTS, K
from storage.shards import RecordWriter
from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.files.hashing import hash_files, look_up, stat_table, trusted
from tasks.files.listing import FileStat, stat_file
from tasks.files.reading import num_threads, read_bytes
from tasks.stage import (
    Checked,
    Context,
    Rejection,
    Report,
    Stage,
    Tables,
    Wanted,
    compare,
    with_columns,
)
from tasks.wording.sources import decode_text, filename_prompt, split_prompts

VERSION = 1


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per source; its key is the source, and the content its prompt comes from."""
    scan = upstream["scan"]
    concepts = {concept.name: concept for concept in context.config.concepts}
    texts = _text_files(context, scan, concepts)
    ids = _content_ids(context, list(texts.values()))
    keys, paths = [], []
    columns = ["concept", "path", "source_id", "sidecar_path"]
    for concept_name, path, source_id, sidecar in _rows(scan.select(columns)):
        concept = concepts[concept_name]
        text_path = _text_path(concept, sidecar)
        content = ids.get(text_path, b"") if text_path else _own_text(concept, path)
        keys.append(_item_key(concept, source_id, content))
        paths.append(text_path)
    table = with_columns(scan, key=pa.array(keys, K), text_path=pa.array(paths, pa.string()))
    facts = {"stage": "prompts", "version": VERSION}
    stage_id = hexkey(digest_json("stage", facts))
    return Wanted(stage_id, table, {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """A source's prompts are known when their text has been read before."""
    return compare(
        context,
        "prompts",
        wanted,
        committed=context.committed("prompts", wanted.stage_id, ["key"]),
        bad=context.rejected("prompts", wanted.stage_id),
        changed_reason="the prompt's text changed",
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Reads and splits texts; one that is not UTF-8 is quarantined with its source."""
    flush_seconds = context.config.store.flush_seconds
    with RecordWriter(
        context.store, "prompts", wanted.stage_id, PROMPTS, flush_seconds=flush_seconds
    ) as writer:
        for row, item in _resolve(context.config, missing):
            if item["error"] is None:
                writer.add(item)
            else:
                reason = f"{PurePosixPath(row['text_path']).name}: {item['error']}"
                bad = Rejection(row["key"], row["source_id"], row["path"], reason)
                context.reject("prompts", wanted.stage_id, [bad])
            report(1)


def manifest(context: Context, checked: Checked) -> pa.Table:
    """The scan's rows with their `prompts` and `origin`; sources without a usable text are out."""
    items = context.committed("prompts", checked.wanted.stage_id)
    known = dict(zip(items["key"].to_pylist(), _prompt_pairs(items), strict=True))
    if context.dry_run:
        for row, item in _resolve(context.config, checked.missing):
            if item["error"] is None:
                known[row["key"]] = (item["prompts"], item["origin"])
    table = checked.wanted.table
    found = [known.get(key) for key in table["key"].to_pylist()]
    table = with_columns(
        table,
        prompts=pa.array([pair and pair[0] for pair in found], pa.list_(pa.string())),
        origin=pa.array([pair and pair[1] for pair in found], pa.string()),
    )
    return table.filter(pa.array([pair is not None for pair in found], pa.bool_()))


def _prompt_pairs(items: pa.Table) -> Iterator[tuple[list[str], str]]:
    return zip(items["prompts"].to_pylist(), items["origin"].to_pylist(), strict=True)


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _text_path(concept: Concept, sidecar: str) -> str | None:
    """The file that a source's prompts are read from, or None when there is none."""
    if concept.prompt_source == "text_file":
        return concept.prompt_path
    return sidecar if concept.prompt_source == "sidecar" and sidecar else None


def _own_text(concept: Concept, path: str) -> str:
    return PurePosixPath(path).stem if concept.prompt_source == "filename" else ""


def _item_key(concept: Concept, source_id: bytes, content: bytes | str) -> bytes:
    """The lines of a text file are the same for all sources: one item."""
    owner = b"" if concept.prompt_source == "text_file" else source_id
    return digest("prompts", owner, concept.prompt_source, concept.multiline, content)


def _text_files(
    context: Context, scan: pa.Table, concepts: dict[str, Concept]
) -> dict[str, FileStat]:
    """Every text file that some source reads, once."""
    names = [f"sidecar_{name}" for name in FileStat.__slots__]
    files: dict[str, FileStat] = {}
    for concept_name, *stat in _rows(scan.select(["concept", *names])):
        if concepts[concept_name].prompt_source == "sidecar" and stat[0]:
            files[stat[0]] = FileStat(*stat)
    for concept in concepts.values():
        if concept.enabled and concept.prompt_source == "text_file" and concept.prompt_path:
            files[concept.prompt_path] = stat_file(concept.prompt_path)
    return files


def _content_ids(context: Context, files: list[FileStat]) -> dict[str, bytes]:
    """The content id of every text file by its path, through the hash cache."""
    cache = trusted(context.hash_cache("text"))
    found = look_up(stat_table(files), cache)["content_id"].to_pylist()
    ids = {file.path: key for file, key in zip(files, found, strict=True) if key is not None}
    unknown = [file for file in files if file.path not in ids]
    threads = num_threads(context.config.data.threads)
    rows = list(hash_files(unknown, "text", lambda _: {}, threads=threads, settle=False))
    if rows and not context.dry_run:
        append_hash_cache(context.store, rows)
    return ids | {row["path"]: row["content_id"] for row in rows if row["content_id"]}


def _resolve(config: Config, missing: pa.Table) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(wanted row, item with its prompts or its error) of every missing row."""
    concepts = {concept.name: concept for concept in config.concepts}
    for row in missing.to_pylist():
        concept = concepts[row["concept"]]
        item: dict[str, Any] = {"key": row["key"], "prompts": [""], "origin": "none", "error": None}
        if concept.prompt_source == "filename":
            item |= {"prompts": [filename_prompt(PurePosixPath(row["path"]).stem)]}
            item |= {"origin": "filename"}
        elif row["text_path"]:
            try:
                text = decode_text(read_bytes(row["text_path"]))
            except (ValueError, OSError) as error:
                item |= {"error": str(error)}
            else:
                prompts = split_prompts(text, concept.multiline)
                origin = concept.prompt_source if prompts else "none"
                item |= {"prompts": prompts or [""], "origin": origin}
        yield row, item


STAGE = Stage(
    name="prompts",
    after=("scan",),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=5000,
)
