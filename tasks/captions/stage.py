"""Captions: the texts that tiles have of their own, instead of their source's."""

import pyarrow as pa

from storage.digest import digest_json, hexkey
from storage.records import CAPTIONS, K
from tasks.stage import Checked, Context, Report, Stage, Tables, Wanted, compare

VERSION = 1


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per exported tile whose sidecar was edited."""
    facts = {"stage": "captions", "version": VERSION}
    stage_id = hexkey(digest_json("stage", facts))
    schema = pa.schema([("key", K), ("logical", pa.string()), ("group", pa.string())])
    return Wanted(stage_id, schema.empty_table(), {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Edits read before are not read again."""
    return compare(
        context,
        "captions",
        wanted,
        committed=context.committed("captions", wanted.stage_id, ["key"]),
        bad=context.rejected("captions", wanted.stage_id),
        changed_reason="the text was edited",
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Reads edited sidecars."""


def manifest(context: Context, checked: Checked) -> pa.Table:
    """The tiles with a text of their own: view_id, `prompts` and `origin` (edited)."""
    return CAPTIONS.empty_table().append_column("logical", pa.array([], pa.string()))


STAGE = Stage(
    name="captions",
    after=("prompts", "crops"),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=5000,
)
