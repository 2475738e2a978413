"""The tables of a report, from what the store keeps of a dataset version.

A store may have been cleaned since: where a stage's manifest is gone, the version's own rows stand
in for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage import tables
from storage.errors import NotFoundError
from storage.hashcache import read_hash_cache
from storage.quarantine import read_quarantine
from storage.store import Store
from storage.versions import Version
from tasks.arrow import with_columns
from tasks.config.models import Config
from tasks.families import get_family
from tasks.imaging.buckets import resolution_buckets
from tasks.imaging.layout import Layout, concept_layouts, cuts_without_tiles
from tasks.report.inputs import REJECT_COLUMNS, SCANNED, VIEWS
from tasks.wording.resolve import GENERATED

REJECTS = pa.schema([("stage", pa.string()), ("path", pa.string()), ("reason", pa.string())])


def scanned(store: Store, version: Version, rows: pa.Table) -> pa.Table:
    """All files that the scan of a version could read (schema SCANNED)."""
    manifest = _manifest(store, version, "scan")
    if manifest is not None:
        return _conformed(manifest, SCANNED)
    names = ["concept", "path", "source_id", "original_width", "original_height"]
    known = rows.group_by(names).aggregate([])
    return _conformed(known.rename_columns([*names[:3], "width", "height"]), SCANNED)


def views(store: Store, version: Version, rows: pa.Table, config: Config | None) -> pa.Table:
    """All measured views of a version, and every scale that gave a source no tiles."""
    manifest = _manifest(store, version, "crops")
    if manifest is None:
        kept = with_columns(rows, key=rows["view_id"])
        return _conformed(kept, VIEWS)
    measured = _conformed(with_columns(manifest, dropped_reason=manifest["dropped"]), VIEWS)
    sources = _manifest(store, version, "prompts")
    if config is None or sources is None:
        return measured
    found = [dict.fromkeys(VIEWS.names) | row for row in _cuts_without_tiles(config, sources)]
    return pa.concat_tables([measured, pa.Table.from_pylist(found, schema=VIEWS)])


def buckets(config: Config | None) -> Sequence[tuple[int, int]]:
    """The buckets of the first training resolution that has several."""
    for layout in _layouts(config).values() if config else ():
        for resolution in layout.resolutions:
            sizes = resolution_buckets(resolution, layout.size_multiple, bucketing=layout.bucketing)
            if len(sizes) > 1:
                return sizes
    return ()


def rejected(
    store: Store, stages: Mapping[str, str | None], *, only_files: bool = False
) -> pa.Table:
    """What could not be made (schema REJECTS), from the tables of some stages.

    With `only_files`, without the tiles that no model could caption: they train all the same.
    """
    parts = [REJECTS.empty_table()]
    for name, path in stages.items():
        if path is not None:
            found = tables.get_table(store, path)
            if only_files and "origin" in found.column_names:
                found = found.filter(pc.not_equal(found["origin"], GENERATED))
            stage = pa.array([name] * found.num_rows, pa.string())
            parts.append(with_columns(found, stage=stage).select(REJECTS.names))
    return pa.concat_tables(parts)


def with_history(store: Store, rejects: pa.Table) -> pa.Table:
    """Rejects with when they were first seen and how often they were tried."""
    history = {
        (row["stage"], row["path"]): (row["first_seen"], row["attempts"])
        for row in read_quarantine(store).to_pylist()
    }
    names = zip(rejects["stage"].to_pylist(), rejects["path"].to_pylist(), strict=True)
    found = [history.get(name, (None, 1)) for name in names]
    table = with_columns(
        rejects,
        first_seen=pa.array([seen for seen, _ in found], pa.string()),
        attempts=pa.array([attempts for _, attempts in found], pa.int32()),
    )
    return table.select(list(REJECT_COLUMNS))


def file_sizes(store: Store) -> dict[bytes, int]:
    """Bytes of every image that was hashed, by source_id."""
    cache = read_hash_cache(store)
    images = cache.filter(pc.equal(cache["kind"], "image")).select(["content_id", "size"])
    return dict(zip(*images.to_pydict().values(), strict=True))


def _manifest(store: Store, version: Version, stage: str) -> pa.Table | None:
    ref = version.meta["stages"].get(stage, {})
    try:
        return tables.get_table(store, ref["manifest"]) if "manifest" in ref else None
    except NotFoundError:
        return None


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema; those that an older Tilewright did not write are null."""
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).cast(schema)


def _cuts_without_tiles(config: Config, sources: pa.Table) -> Iterator[dict[str, Any]]:
    """A row without a rectangle for every scale that gave a source no tiles, with the reason."""
    layouts = _layouts(config)
    columns = sources.select(["concept", "path", "width", "height"]).to_pydict().values()
    for concept, path, width, height in zip(*columns, strict=True):
        if concept in layouts:
            for kind, scale, reason in cuts_without_tiles(layouts[concept], width, height):
                where = {"concept": concept, "path": path, "kind": kind, "scale": scale}
                yield where | {"dropped_reason": reason}


def _layouts(config: Config) -> dict[str, Layout]:
    return concept_layouts(config, get_family(config.model.family).size_multiple)
