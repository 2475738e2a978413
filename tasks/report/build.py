"""The HTML report of a dataset version: one self-contained file, without scripts."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.report import inputs, summary
from tasks.report.inputs import SourceName
from tasks.report.sources import (
    NUM_COLOURS,
    Material,
    describe_card,
    describe_line,
    source_names,
)

MAX_BYTES = 8_000_000
MAX_REJECTS = 500
MAX_MISSING = 200
MAX_BUCKETS = 60
MAX_TEXT = 600
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def build_report(  # noqa: PLR0913 - the tables of a dataset version, all by keyword
    rows: pa.Table,
    *,
    crops: pa.Table,
    rejects: pa.Table,
    scan: pa.Table,
    counts: Mapping[str, Mapping[str, Any]],
    meta: Mapping[str, Any],
    load_thumbnail: Callable[[str], bytes | None],
    max_bytes: int = MAX_BYTES,
) -> str:
    """Return the report of a dataset version as HTML.

    Args:
        rows: The dataset version, one row per sample (schema DATASET).
        crops: All measured views (`tasks.report.inputs.VIEWS`), kept and dropped.
        rejects: The quarantine (schema QUARANTINE).
        scan: All image files (`tasks.report.inputs.SCANNED`, and optionally a `note` column).
        counts: Per stage what was wanted, reused, computed and so on, with reasons.
        meta: `name`, `version`, `settings` (a table) and any further facts for the head.
        load_thumbnail: Returns the JPEG preview of a path; called only for what is shown.
        max_bytes: The report's size; beyond it sources are listed without pictures.

    Raises:
        ValueError: A table lacks a column.
    """
    rows = inputs.require_columns(rows, inputs.ROW_COLUMNS, "rows")
    crops = inputs.require_columns(crops, inputs.VIEWS.names, "crops")
    rejects = inputs.require_columns(rejects, inputs.REJECT_COLUMNS, "rejects")
    material = _material(rows, crops, rejects, scan)
    names = source_names(material)
    environment = _environment()
    facts = _facts(rows, crops, rejects, names) | {
        "meta": {"name": "dataset", "version": None, "settings": None} | dict(meta),
        "settings_text": json.dumps(meta.get("settings"), indent=2, ensure_ascii=False),
        "stages": summary.stage_table(counts),
        "stage_counts": summary.STAGE_COUNTS,
        "max_bytes": max_bytes,
    }
    page = environment.get_template("report.html")
    empty = page.render(**facts, concepts=[], pictured=0)
    cards, lines = _fit(environment, material, names, load_thumbnail, max_bytes - _size(empty))
    concepts = [_concept(*group, cards, lines) for group in groupby(names, lambda name: name[0])]
    return page.render(**facts, concepts=concepts, pictured=len(cards))


def _material(rows: pa.Table, crops: pa.Table, rejects: pa.Table, scan: pa.Table) -> Material:
    if "note" not in scan.column_names:
        scan = scan.append_column("note", pa.nulls(scan.num_rows, pa.string()))
    scan = inputs.require_columns(scan, [*inputs.SCANNED.names, "note"], "scan")
    by_path: dict[str, list[dict[str, Any]]] = {}
    for row in rejects.select(["path", "stage", "reason"]).to_pylist():
        by_path.setdefault(row["path"], []).append(row)
    tiles = crops.filter(pc.equal(crops["kind"], "detail"))
    scales = sorted(pc.unique(tiles["scale"]).to_pylist())
    return Material(
        scan=inputs.group_by_source(scan),
        rows=inputs.group_by_source(rows),
        views=inputs.group_by_source(crops),
        rejects=by_path,
        colours={scale: index % NUM_COLOURS for index, scale in enumerate(scales)},
    )


def _facts(
    rows: pa.Table, crops: pa.Table, rejects: pa.Table, names: list[SourceName]
) -> dict[str, Any]:
    missing = summary.missing_captions(rows)
    buckets = summary.bucket_histogram(rows)
    scales = summary.scale_table(rows, crops)
    return {
        "num_sources": len(names),
        "num_concepts": len({concept for concept, _ in names}),
        "num_samples": rows.num_rows,
        "num_validation": pc.sum(pc.equal(rows["split"], "validation")).as_py() or 0,
        "kinds": summary.kind_shares(rows),
        "scales": scales,
        "num_dropped": sum(scale["dropped"] for scale in scales),
        "num_enlarged": sum(scale["enlarged"] for scale in scales),
        "buckets": buckets[:MAX_BUCKETS],
        "more_buckets": len(buckets) - len(buckets[:MAX_BUCKETS]),
        "rejects": rejects.slice(0, MAX_REJECTS).to_pylist(),
        "num_rejects": rejects.num_rows,
        "missing": missing[:MAX_MISSING],
        "num_missing": len(missing),
    }


def _fit(
    environment: Environment,
    material: Material,
    names: list[SourceName],
    load_thumbnail: Callable[[str], bytes | None],
    budget: int,
) -> tuple[dict[SourceName, Markup], dict[SourceName, Markup]]:
    """Render as many sources as the budget (bytes) holds: as cards, then as table lines.

    Lines may use half of the budget, so that some sources have pictures however many there are.
    """
    macros = environment.get_template("source.html").module
    # What the page puts around the sources of one concept.
    budget -= 2000 * len({concept for concept, _ in names})
    lines: dict[SourceName, Markup] = {}
    used = 0
    for name in names:
        line = macros.source_line(describe_line(material, name))  # type: ignore[attr-defined]
        if used + _size(line) > budget / 2:
            break
        lines[name] = line
        used += _size(line)
    cards: dict[SourceName, Markup] = {}
    for number, name in enumerate(_in_turns(names)):
        facts = describe_card(material, name, f"s{number}", load_thumbnail(name[1]))
        card = macros.source_card(facts)  # type: ignore[attr-defined]
        used += _size(card) - _size(lines.get(name, ""))
        if used > budget:
            break
        cards[name] = card
    return cards, lines


def _in_turns(names: list[SourceName]) -> Iterator[SourceName]:
    """Yield the first source of each concept, then the second of each, and so on."""
    turns: dict[str, int] = {}
    ranked = []
    for name in names:
        turns[name[0]] = turns.get(name[0], -1) + 1
        ranked.append((turns[name[0]], name))
    yield from (name for _, name in sorted(ranked))


def _concept(
    concept: str,
    names: Iterator[SourceName],
    cards: Mapping[SourceName, Markup],
    lines: Mapping[SourceName, Markup],
) -> dict[str, Any]:
    members = list(names)
    rest = [name for name in members if name not in cards]
    listed = [lines[name] for name in rest if name in lines]
    return {
        "name": concept,
        "num_sources": len(members),
        "cards": [cards[name] for name in members if name in cards],
        "lines": listed,
        "unlisted": len(rest) - len(listed),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: "–" if value is None else f"{value:,}"
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.filters["short"] = _short
    return environment


def _short(text: object, limit: int = MAX_TEXT) -> str:
    """Return text fit to be shown: no control characters, not longer than a screen."""
    shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))
    if len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(shown):,} characters)"


def _size(text: str) -> int:
    return len(text.encode())
