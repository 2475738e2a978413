"""The HTML report of a dataset version: one self-contained file.

The summary is written here and needs no script. The sources travel as packed data (`packing`), of
which `report.js` unpacks what it shows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tasks.arrow import as_array
from tasks.epochs.outlook import Outlook
from tasks.report import inputs, packing, plots, summary
from tasks.report.changes import CHANGES, Changes, changed_settings, compare_versions
from tasks.report.epochs import epoch_table, unseen_table
from tasks.report.facts import (
    BITS,
    CHANGED,
    Facts,
    mark_counts,
    num_readable,
    source_facts,
)
from tasks.report.inputs import Sources, Tables, number_sources
from tasks.report.page import render
from tasks.report.prompts import collect_prompts
from tasks.report.reasons import summarise_reasons
from tasks.report.views import sort_views

FORMAT = 2
"""Raised when the page changes so much that older ones should be made anew."""
MAX_LISTED = 200
"""Lines of a list in the summary."""
MAX_BUCKETS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What else is known of a dataset version."""

    meta: Mapping[str, Any]
    """`name`, `version`, `settings` (a table), `parent` (`version` and `settings`, or None) and any
    further facts for the head."""
    counts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per stage what was wanted, reused, computed and so on, with reasons."""
    outlook: Outlook | None = None
    """What the epochs of a training will be; None where that is not known."""
    buckets: Sequence[tuple[int, int]] = ()
    """(width, height) of the buckets that images are sorted into, for one resolution."""
    made_of: str = ""
    """Stands in the head, so that a program can tell what the page was made of."""


def build_report(
    tables: Tables,
    about: About,
    *,
    thumbnails: Mapping[bytes, bytes] | None = None,
    max_bytes: int = packing.PAGE_BYTES,
) -> str:
    """Return the report of a dataset version as HTML.

    Args:
        tables: The version, its views, files and rejects, and the version before.
        about: What else is known of it.
        thumbnails: JPEG by source_id.
        max_bytes: The page's size; `packing` says what is left out to keep it.

    Raises:
        ValueError: A table lacks a column.
    """
    tables = inputs.checked(tables)
    sources = number_sources(tables)
    prompts = collect_prompts(tables.rows, sources)
    previous = tables.previous
    changes = Changes({}) if previous is None else compare_versions(tables.rows, previous)
    facts = source_facts(tables, sources, prompts, changes)
    grids = sort_views(tables, sources, prompts)
    page = {
        **_head(about, max_bytes),
        **_numbers(tables, sources, facts),
        **_plots(tables, facts, about.buckets),
        **_epochs(about.outlook),
        **_differences(about.meta, changes),
    }
    room = max_bytes - len(render(page, None).encode())
    without = _without_tiles(tables, sources)
    values = packing.source_values(sources, facts, prompts, grids.scales, without)
    jpegs = _thumbnails_of(tables, sources, thumbnails or {})
    packed = packing.pack_sources(packing.pack(values), grids, jpegs, _in_turns(sources), room)
    return render(page, packed)


def _head(about: About, max_bytes: int) -> dict[str, Any]:
    none = {"name": "dataset", "version": None, "settings": None, "parent": None}
    return {
        "meta": none | dict(about.meta),
        "settings_text": json.dumps(about.meta.get("settings"), indent=2, ensure_ascii=False),
        "made_of": about.made_of,
        "stages": summary.stage_table(about.counts),
        "stage_counts": summary.STAGE_COUNTS,
        "max_bytes": max_bytes,
    }


def _numbers(tables: Tables, sources: Sources, facts: Facts) -> dict[str, Any]:
    rows, rejects = tables.rows, tables.rejects
    missing = summary.missing_captions(rows)
    scales = summary.scale_table(rows, tables.views)
    dropped = tables.views.filter(
        pc.and_(pc.is_valid(tables.views["left"]), pc.is_valid(tables.views["dropped_reason"]))
    )
    readable = num_readable(sources)
    return {
        "num_sources": readable,
        "num_listed": len(sources),
        "num_samples": rows.num_rows,
        "num_validation": pc.sum(pc.equal(rows["split"], "validation")).as_py() or 0,
        "kinds": summary.kind_counts(rows),
        "scales": scales,
        "num_dropped": sum(scale["dropped"] for scale in scales),
        "num_enlarged": sum(scale["enlarged"] for scale in scales),
        "drop_reasons": summarise_reasons(as_array(dropped["dropped_reason"]).to_pylist())[:8],
        "concepts": summary.concept_table(rows, tables.scan),
        "marks": mark_counts(facts),
        **_changed(facts),
        "rejects": rejects.slice(0, MAX_LISTED).to_pylist(),
        "num_rejects": rejects.num_rows,
        "missing": missing[:MAX_LISTED],
        "num_missing": len(missing),
    }


def _changed(facts: Facts) -> dict[str, int]:
    """The bits of every mark that says that a source changed, and how many sources have one."""
    bits = sum(BITS[name] for name in CHANGED)
    number = int(np.count_nonzero(facts.marks & bits))
    return {"changed_bits": bits if number else 0, "num_changed": number}


def _plots(tables: Tables, facts: Facts, buckets: Sequence[tuple[int, int]]) -> dict[str, Any]:
    histogram = summary.bucket_histogram(tables.rows)
    resolutions = plots.training_resolutions(tables.rows)
    return {
        "buckets": histogram[:MAX_BUCKETS],
        "more_buckets": len(histogram) - len(histogram[:MAX_BUCKETS]),
        "sizes": plots.resolution_plot(facts.width, facts.height, resolutions),
        "aspects": plots.aspect_plot(facts.width, facts.height, buckets),
        "plot": {"width": plots.WIDTH, "height": plots.HEIGHT, "left": plots.LEFT,
                 "right": plots.WIDTH - plots.RIGHT, "top": plots.TOP,
                 "bottom": plots.HEIGHT - plots.BOTTOM},
    }  # fmt: skip


def _epochs(outlook: Outlook | None) -> dict[str, Any]:
    return {
        "outlook": outlook,
        "epochs": epoch_table(outlook) if outlook else [],
        "unseen": unseen_table(outlook) if outlook else [],
    }


def _differences(meta: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    parent = meta.get("parent")
    settings = changed_settings(meta.get("settings"), parent["settings"]) if parent else []
    listed = {
        change: [_display(name, changes) for name in names[:MAX_LISTED]]
        for change, names in changes.names.items()
    }
    return {
        "changes": {change: len(changes.names.get(change, [])) for change in CHANGES},
        "changed": listed,
        "changed_settings": [
            (name, *(json.dumps(value, ensure_ascii=False) for value in values))
            for name, *values in settings
        ],
    }


def _display(name: str, changes: Changes) -> tuple[str, str, str | None]:
    """(concept, path, what a renamed source was called)."""
    concept, path = name.split("\0", 1)
    before = changes.before.get(name)
    return concept, path, before and before.split("\0", 1)[1]


def _without_tiles(tables: Tables, sources: Sources) -> dict[int, list[Any]]:
    """Per source: kind, scale and reason of every cut that gave no tiles."""
    none = tables.views.filter(pc.is_null(tables.views["left"]))
    found: dict[int, list[Any]] = {}
    columns = none.select(["kind", "scale", "dropped_reason"]).to_pydict().values()
    for number, kind, scale, reason in zip(sources.numbers(none).tolist(), *columns, strict=True):
        found.setdefault(number, []).append([kind, round(scale, 6), reason])
    return found


def _thumbnails_of(
    tables: Tables, sources: Sources, thumbnails: Mapping[bytes, bytes]
) -> list[bytes | None]:
    """The thumbnail of each source."""
    found: list[bytes | None] = [None] * len(sources)
    for table in (tables.rows.group_by(["concept", "path", "source_id"]).aggregate([]),
                  tables.scan):  # fmt: skip
        ids = table["source_id"].to_pylist()
        for number, source in zip(sources.numbers(table).tolist(), ids, strict=True):
            found[number] = thumbnails.get(source)
    return found


def _in_turns(sources: Sources) -> list[int]:
    """The first source of each concept, then the second of each, and so on."""
    turn: dict[int, int] = {}
    ranked = []
    for number, concept in enumerate(sources.concept.tolist()):
        turn[concept] = turn.get(concept, -1) + 1
        ranked.append((turn[concept], number))
    return [number for _, number in sorted(ranked)]
