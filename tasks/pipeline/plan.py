"""Plan: what `prepare` would do and why, without Prefect and without writing anything."""

import time
from typing import Any

import pyarrow as pa

from tasks.config.models import Config
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageCounts


def plan_pipeline(config: Config) -> dict[str, Any]:
    """The object that `tilewright plan --json` prints; `computed` is what would be computed."""
    started = time.monotonic()
    context = Context(config, dry_run=True)
    manifests: dict[str, pa.Table] = {}
    counts: dict[str, StageCounts] = {}
    for stage in STAGES:
        checked = stage.check(context, stage.wanted(context, manifests))
        manifests[stage.name] = stage.manifest(context, checked)
        counts[stage.name] = checked.counts
    nothing = {"name": config.data.name, "version": None, "uri": None}
    return {
        "dataset": (context.latest.summary() if context.latest else nothing)
        | {"num_samples": manifests["latents"].num_rows},
        "stages": stages_json(counts),
        "seconds": round(time.monotonic() - started, 3),
    }


def stages_json(counts: dict[str, StageCounts]) -> dict[str, Any]:
    """The counts of every stage; masks only where some concept has them."""
    return {
        stage.name: counts[stage.name].as_json()
        for stage in STAGES
        if stage.name in counts and (stage.name != "masks" or counts["masks"] != StageCounts())
    }
