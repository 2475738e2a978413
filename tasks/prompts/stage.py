"""Prompts: the texts that each source may train on."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_json, hexkey
from storage.records import PROMPTS, K
from storage.shards import RecordWriter
from tasks.arrow import with_columns
from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.files.reading import SourceChangedError, read_bytes, read_source
from tasks.prompts.texts import Text, broken_lines, read_sources, text_of
from tasks.stage import Checked, Context, Rejection, Report, Stage, Tables, Wanted, compare
from tasks.wording.sources import decode_text, filename_prompt, split_prompts

VERSION = 1
Row = dict[str, Any]


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per source; its key is the source, and the content its prompt comes from.

    A broken line of a JSONL file is an item of its own, that cannot be made.
    """
    scan = upstream["scan"]
    concepts = {concept.name: concept for concept in context.config.concepts}
    known = read_sources(context, scan)
    names = ["concept", "path", "source_id", "sidecar_path"]
    columns = scan.select(names).to_pydict().values()
    texts = [
        text_of(concepts[concept], path, source_id, sidecar, known)
        for concept, path, source_id, sidecar in zip(*columns, strict=True)
    ]
    broken = list(broken_lines(known))
    places = pa.array([place for place, _ in broken], pa.string())
    lines = pa.table({"path": places, "logical": places, "group": places})
    table = pa.concat_tables(
        [
            with_columns(scan, **_columns(texts)),
            with_columns(lines, **_columns([text for _, text in broken])),
        ],
        promote_options="default",
    )
    facts = {"stage": "prompts", "version": VERSION}
    stage_id = hexkey(digest_json("stage", facts))
    return Wanted(stage_id, table, {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """A source's prompts are known when their text has been read before."""
    table = wanted.table
    broken = table.filter(pc.is_valid(table["broken"])).select(["key", "broken"])
    bad = context.rejected("prompts", wanted.stage_id).select(["key", "reason"])
    return compare(
        context,
        "prompts",
        wanted,
        committed=context.committed("prompts", wanted.stage_id, ["key"]),
        bad=pa.concat_tables([bad, broken.rename_columns(["key", "reason"])]),
        changed_reason="the prompt's text changed",
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Reads and splits texts; one that is not UTF-8 is quarantined with its source.

    A text that vanished or changed since it was hashed is left to the next run.
    """
    flush_seconds = context.config.store.flush_seconds
    with RecordWriter(
        context.store, "prompts", wanted.stage_id, PROMPTS, flush_seconds=flush_seconds
    ) as writer:
        for row, item in _resolve(context.config, missing):
            if item is None:
                continue
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
            if item is not None and item["error"] is None:
                known[row["key"]] = (item["prompts"], item["origin"])
    table = checked.wanted.table.drop_columns(["text_id", "texts", "broken"])
    found = [known.get(key) for key in table["key"].to_pylist()]
    table = with_columns(
        table,
        prompts=pa.array([pair and pair[0] for pair in found], pa.list_(pa.string())),
        origin=pa.array([pair and pair[1] for pair in found], pa.string()),
    )
    return table.filter(pa.array([pair is not None for pair in found], pa.bool_()))


def _prompt_pairs(items: pa.Table) -> Iterator[tuple[list[str], str]]:
    return zip(items["prompts"].to_pylist(), items["origin"].to_pylist(), strict=True)


def _columns(texts: list[Text]) -> dict[str, pa.Array]:
    """What `work` must know of each item."""
    return {
        "key": pa.array([text.key for text in texts], K),
        "text_path": pa.array([text.path for text in texts], pa.string()),
        "text_id": pa.array([text.content_id for text in texts], K),
        "texts": pa.array([text.texts for text in texts], pa.list_(pa.string())),
        "broken": pa.array([text.broken for text in texts], pa.string()),
    }


def _resolve(config: Config, missing: pa.Table) -> Iterator[tuple[Row, Row | None]]:
    """(wanted row, item with its prompts or its error) of every missing row.

    There is no item when the text is not the one that was hashed.
    """
    concepts = {concept.name: concept for concept in config.concepts}
    for row in missing.to_pylist():
        try:
            prompts = _prompts(row, concepts[row["concept"]])
        except (SourceChangedError, FileNotFoundError):
            yield row, None
        except (ValueError, OSError) as error:
            yield row, {"key": row["key"], "prompts": [], "origin": "none", "error": str(error)}
        else:
            origin = concepts[row["concept"]].prompt_source if prompts else "none"
            found = {"prompts": prompts or [""], "origin": origin, "error": None}
            yield row, {"key": row["key"], **found}


def _prompts(row: Row, concept: Concept) -> list[str]:
    """The prompts of one item; none when there is no text or it is blank."""
    if concept.prompt_source == "filename":
        return [filename_prompt(PurePosixPath(row["path"]).stem)]
    if row["texts"] is not None:
        return list(row["texts"])
    if row["text_path"] is None:
        return []
    if row["text_id"] is None:
        # It could not be read while planning. What is wrong is told again; if nothing is any more,
        # its content is still not what the item's key says.
        data = read_bytes(row["text_path"])
        raise SourceChangedError(f"{row['text_path']} can be read again: {len(data)} bytes")
    data = read_source(row["text_path"], row["text_id"])
    return split_prompts(decode_text(data), concept.multiline)


STAGE = Stage(
    name="prompts",
    after=("scan",),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=5000,
)
