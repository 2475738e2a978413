"""Plan: what `prepare` would do and why, without Prefect and without writing anything."""

import os
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage import index
from storage.rates import read_rates
from storage.versions import Version
from tasks.arrow import as_array, count_true
from tasks.config.models import Config
from tasks.dataset.assemble import dataset_rows
from tasks.dataset.settings import settings_digest
from tasks.files.listing import UNUSABLE, is_local
from tasks.pipeline.epochs import planned_epochs
from tasks.pipeline.estimates import Estimate, device_kind, estimate, total, units
from tasks.pipeline.export import plan_export
from tasks.pipeline.stages import STAGES
from tasks.stage import Checked, Context, Stage, StageCounts, reasons_of


def plan_pipeline(config: Config) -> dict[str, Any]:
    """The object that `tilewright plan --json` prints; `computed` is what would be computed."""
    started = time.monotonic()
    context = Context(config, dry_run=True)
    manifests: dict[str, pa.Table] = {}
    checks: dict[str, Checked] = {}
    counts: dict[str, StageCounts] = {}
    for stage in STAGES:
        name, checked = stage.name, stage.check(context, stage.wanted(context, manifests))
        manifests[name], checks[name] = stage.manifest(context, checked), checked
        counts[name] = _foreseen(name, checked, manifests[name])
    rows = _planned_rows(config, manifests, checks["latents"])
    estimates = {stage.name: _estimate(context, stage, checks[stage.name]) for stage in STAGES}
    stages = stages_json(counts)
    for name, told in stages.items():
        known = estimates[name]
        told["estimate"] = None if known is None else known.as_json()
    exported = plan_export(config, rows)
    return {
        "dataset": latest_told(context)
        | {"num_samples": pc.sum(pc.equal(rows["split"], "train")).as_py() or 0},
        "stages": stages,
        "estimate": total(estimates),
        "outlook": planned_epochs(config, rows, _same_version(context, counts)),
        **({"export": exported.as_json()} if exported else {}),
        "seconds": round(time.monotonic() - started, 3),
    }


def latest_told(context: Context) -> dict[str, Any]:
    """The latest version of the dataset as summaries tell it; without a number before the first."""
    if context.latest:
        return context.latest.summary()
    return {"name": context.config.data.name, "version": None, "uri": None, "num_samples": None}


def _same_version(context: Context, counts: dict[str, StageCounts]) -> Version | None:
    """The latest version, when a preparation would find that it equals it."""
    latest = context.latest
    still = not any(one.computed or one.removed for one in counts.values())
    same = latest and latest.meta["config"].get("digest") == settings_digest(context.config)
    return latest if still and same else None


def stages_json(counts: dict[str, StageCounts]) -> dict[str, Any]:
    """The counts of every stage; masks only where some concept has them."""
    return {
        stage.name: counts[stage.name].as_json()
        for stage in STAGES
        if stage.name in counts and (stage.name != "masks" or counts["masks"] != StageCounts())
    }


def _foreseen(stage: str, checked: Checked, manifest: pa.Table) -> StageCounts:
    """The counts with the bad files that planning itself has come across.

    Scan and prompts read what is missing for their manifests; what is not in them is bad.
    """
    counts = checked.counts
    if stage not in ("scan", "prompts"):
        return counts
    bad = index.missing(checked.missing, manifest)
    # A file that is no image was hashed all the same, one that cannot be read was not.
    unmade = bad if stage == "prompts" else bad.filter(_unreadable(bad))
    changed = count_true(unmade["was_there"])
    left = Counter(counts.reasons)
    left.subtract(reasons_of(unmade))
    return replace(
        counts,
        wanted=counts.wanted - unmade.num_rows,
        computed=counts.computed - unmade.num_rows,
        new=counts.new - (unmade.num_rows - changed),
        changed=counts.changed - changed,
        rejected=counts.rejected + bad.num_rows,
        reasons={reason: n for reason, n in left.items() if n},
    )


def _unreadable(files: pa.Table) -> pa.Array:
    """Which files of the scan cannot be read at all."""
    pairs = zip(files["path"].to_pylist(), files["etag"].to_pylist(), strict=True)
    unreadable = [
        etag in UNUSABLE or (is_local(path) and not os.access(path, os.R_OK))
        for path, etag in pairs
    ]
    return pa.array(unreadable, pa.bool_())


def _planned_rows(config: Config, manifests: dict[str, pa.Table], latents: Checked) -> pa.Table:
    """The rows that the dataset would have; those known to have no latent are left out."""
    rows = dataset_rows(config, manifests)
    lost = latents.bad.filter(pc.invert(latents.bad["made"]))
    return rows.filter(pc.invert(pc.is_in(rows["sample_id"], as_array(lost["sample_id"]))))


def _estimate(context: Context, stage: Stage, checked: Checked) -> Estimate | None:
    """What the missing items of a stage will take; None where nothing is known of it."""
    if not checked.missing.num_rows:
        return Estimate(0, 0, 0)
    rates = read_rates(context.store, stage.name)
    amount = units(stage.name, checked.missing)
    return estimate(rates, checked.wanted.stage_id, device_kind(stage.name), amount)
