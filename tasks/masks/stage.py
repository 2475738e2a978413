"""Masks: how much each latent cell of a sample counts, from mask files or transparency."""

import pyarrow as pa

from storage.digest import digest_json, hexkey
from storage.records import INDEX, LOCATION, K
from tasks.stage import Checked, Context, Report, Stage, Tables, Wanted, compare

VERSION = 1


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per kept sample of a concept with masks."""
    facts = {"stage": "masks", "version": VERSION}
    stage_id = hexkey(digest_json("stage", facts))
    schema = pa.schema([("key", K), ("logical", pa.string()), ("group", pa.string())])
    return Wanted(stage_id, schema.empty_table(), {stage_id: facts})


def check(context: Context, wanted: Wanted) -> Checked:
    """Masks made before are not made again."""
    return compare(
        context,
        "masks",
        wanted,
        committed=context.committed("masks", wanted.stage_id, ["key"]),
        bad=context.rejected("masks", wanted.stage_id),
        changed_reason="the mask, the source or its geometry changed",
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Makes masks."""


def manifest(context: Context, checked: Checked) -> pa.Table:
    """Where the mask of each sample is; `key` is the sample_id."""
    types = {name: INDEX.field(name).type for name in INDEX.names} | {"shard": pa.string()}
    located = [(f"mask_{name}", types[name]) for name in LOCATION]
    return pa.schema([("key", K), ("logical", pa.string()), *located]).empty_table()


STAGE = Stage(
    name="masks",
    after=("crops",),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=1000,
)
