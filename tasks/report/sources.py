"""What the report says about one source: grids to draw, prompts, dropped tiles, notes."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.report.inputs import BySource, SourceName
from tasks.report.reasons import summarise_reasons
from tasks.report.summary import KINDS

MAX_DRAWN = 1500
"""Rectangles drawn per grid; a gigapixel source would otherwise fill the report alone."""
MAX_DROPPED_LISTED = 40
MAX_PROMPTS_LISTED = 6
NUM_COLOURS = 6


_NO_HEADER = {"width": None, "height": None, "format": None, "mode": None}


@dataclass(frozen=True)
class Material:
    """All tables of a report, ready to be asked about one source."""

    scan: BySource
    rows: BySource
    views: BySource
    rejects: Mapping[str, Sequence[Mapping[str, Any]]]
    colours: Mapping[float, int]


def source_names(material: Material) -> list[SourceName]:
    """Return every source that any table names, by concept and path."""
    return sorted({*material.scan.places, *material.rows.places, *material.views.places})


def describe_line(material: Material, name: SourceName) -> dict[str, Any]:
    """Return the facts that fit on one line of a table."""
    scanned = material.scan.rows(name)
    views = [view for view in material.views.rows(name) if view["left"] is not None]
    tiles = [view for view in views if view["kind"] != "full"]
    dropped = sum(view["dropped_reason"] is not None for view in tiles)
    return {
        "concept": name[0],
        "path": name[1],
        "header": scanned[0] if scanned else _NO_HEADER,
        "samples": material.rows.count(name),
        "kept": len(tiles) - dropped,
        "dropped": dropped,
        "notes": _notes(material, name, scanned),
    }


def describe_card(
    material: Material, name: SourceName, anchor: str, thumbnail: bytes | None
) -> dict[str, Any]:
    """Return everything that the report shows about one source."""
    rows, views = material.rows.rows(name), material.views.rows(name)
    header = (material.scan.rows(name) or [_NO_HEADER])[0]
    size = (header["width"], header["height"])
    if None in size and rows:
        size = (rows[0]["original_width"], rows[0]["original_height"])
    return {
        **describe_line(material, name),
        "anchor": anchor,
        "size": size,
        "thumbnail": base64.b64encode(thumbnail).decode("ascii") if thumbnail else None,
        "panels": _panels(views, rows, size, material.colours),
        "prompts": _prompts(rows),
        "dropped_tiles": _dropped(views),
    }


def _notes(material: Material, name: SourceName, scanned: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [
        f"rejected in {row['stage']}: {row['reason']}" for row in material.rejects.get(name[1], ())
    ]
    notes += [row["note"] for row in scanned if row.get("note")]
    if not notes and not material.rows.count(name):
        notes.append("no samples")
    return notes


def _panels(
    views: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    size: tuple[int | None, int | None],
    colours: Mapping[float, int],
) -> list[dict[str, Any]]:
    """Return one panel per picture that rectangles lie on: the source, or the resized source."""
    groups: dict[tuple[int, float, tuple[int | None, int | None]], list[Mapping[str, Any]]] = {}
    for view in views:
        full = view["kind"] == "full"
        canvas = size if full else (view["resized_width"], view["resized_height"])
        scale = 0.0 if full else view["scale"]
        groups.setdefault((KINDS.index(view["kind"]), scale, canvas), []).append(view)
    order = sorted(groups, key=lambda key: (key[0], key[1], key[2][0] or 0, key[2][1] or 0))
    panels = []
    for kind, scale, canvas in order:
        panel = _panel(groups[kind, scale, canvas], KINDS[kind], scale, canvas)
        panel["colour"] = f"s{colours[scale]}" if KINDS[kind] == "detail" else KINDS[kind]
        panel["buckets"] = _buckets(rows, KINDS[kind])
        panels.append(panel)
    # Scales that gave no tiles are a line of text: after the pictures.
    return sorted(panels, key=lambda panel: panel["canvas"] is None)


def _panel(
    views: Sequence[Mapping[str, Any]],
    kind: str,
    scale: float,
    canvas: tuple[int | None, int | None],
) -> dict[str, Any]:
    cut = [view for view in views if view["left"] is not None]
    dropped = [view for view in cut if view["dropped_reason"] is not None]
    kept = [view for view in cut if view["dropped_reason"] is None]
    # Dropped tiles last, so that they lie on top, and first to be drawn when there are too many.
    drawn = kept[: max(0, MAX_DRAWN - len(dropped))] + dropped[:MAX_DRAWN]
    return {
        "kind": kind,
        "label": {"full": "full frame", "context": "context"}.get(kind, f"detail ×{scale:g}"),
        "canvas": canvas if cut and None not in canvas else None,
        "kept": len(kept),
        "dropped": len(dropped),
        "rectangles": [_rectangle(view) for view in drawn],
        "undrawn": len(cut) - len(drawn),
        "why_none": [view["dropped_reason"] for view in views if view["left"] is None],
        "reasons": summarise_reasons(view["dropped_reason"] for view in dropped)[:3],
    }


def _rectangle(view: Mapping[str, Any]) -> dict[str, Any]:
    rect = [view[name] for name in ("left", "top", "width", "height")]
    left, top, width, height = rect
    numbers = f"luma std {_number(view['luma_std'])}, edges {_percent(view['edge_share'])}"
    reason = view["dropped_reason"]
    return {
        "rect": rect,
        "dropped": reason is not None,
        "title": f"{f'dropped: {reason}' if reason else 'kept'} · {numbers} · "
        f"{width}×{height} at {left},{top}",
    }


def _dropped(views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    dropped = [
        view for view in views if view["left"] is not None and view["dropped_reason"] is not None
    ]
    listed = [
        {
            **view,
            "std": _number(view["luma_std"]),
            "edges": _percent(view["edge_share"]),
        }
        for view in dropped[:MAX_DROPPED_LISTED]
    ]
    return {"listed": listed, "more": len(dropped) - len(listed)}


def _prompts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the samples of each distinct set of prompts, and say where it came from.

    The prompts of the full frame come first, then the most used.
    """
    found: dict[tuple[str, ...], Counter[tuple[str, str]]] = {}
    for row in rows:
        use = (row["kind"], row["prompt_origin"] or "none")
        found.setdefault(tuple(row["prompts"] or ()), Counter())[use] += 1
    order = sorted(found.items(), key=lambda item: (_full_last(item[1]), -item[1].total(), item[0]))
    listed = [
        {
            "texts": texts,
            "uses": [
                {"kind": kind, "origin": origin, "samples": uses[kind, origin]}
                for kind, origin in sorted(uses, key=lambda use: (KINDS.index(use[0]), use[1]))
            ],
        }
        for texts, uses in order[:MAX_PROMPTS_LISTED]
    ]
    return {"listed": listed, "more": len(order) - len(listed)}


def _full_last(uses: Counter[tuple[str, str]]) -> bool:
    return not any(kind == "full" for kind, _ in uses)


def _buckets(rows: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    sizes = {(row["bucket_width"], row["bucket_height"]) for row in rows if row["kind"] == kind}
    return [f"{width}×{height}" for width, height in sorted(sizes)]


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2%}"
