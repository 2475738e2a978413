"""Report: the tables of a finished preparation, turned into the HTML page of its version."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from storage import tables
from storage.quarantine import read_quarantine
from storage.versions import Version, read_rows
from tasks.config.models import Config
from tasks.imaging.layout import concept_layout, cuts_without_tiles
from tasks.dataset.settings import data_settings
from tasks.families import get_family
from tasks.files.reading import read_bytes
from tasks.pipeline.plan import stages_json
from tasks.report.build import build_report
from tasks.report.inputs import SCANNED, VIEWS
from tasks.report.summary import missing_captions
from tasks.report.thumbnails import make_thumbnail
from tasks.stage import Context, StageRef, with_columns

REJECTS = pa.schema([("stage", pa.string()), ("path", pa.string()), ("reason", pa.string())])


def report_path(version: Version) -> str:
    """Where in the store the report of a version is."""
    return f"datasets/{version.name}/{version.number:06}.html"


def write_report(config: Config, version: Version, refs: dict[str, StageRef]) -> str:
    """Writes the report of a version into the store and gives its URI."""
    context = Context(config)
    prompts = tables.get_table(context.store, refs["prompts"].manifest)
    crops = tables.get_table(context.store, refs["crops"].manifest)
    rejects = _with_history(read_rejects(context, refs), read_quarantine(context.store))
    scan = _scanned(tables.get_table(context.store, refs["scan"].manifest))
    page = build_report(
        read_rows(context.store, version),
        crops=pa.concat_tables([_views(crops), _no_tiles(config, prompts)]),
        rejects=rejects,
        scan=scan,
        counts=stages_json({name: ref.counts for name, ref in refs.items()}),
        meta={
            "name": version.name,
            "version": version.number,
            "created": version.meta["created_at"],
            "content": version.content_digest,
            "family": config.model.family,
            "settings": data_settings(config),
        },
        load_thumbnail=_thumbnail,
    )
    context.store.replace(report_path(version), page.encode())
    return context.store.uri(report_path(version))


def _views(crops: pa.Table) -> pa.Table:
    names = [name for name in VIEWS.names if name != "dropped_reason"]
    return crops.select([*names, "dropped"]).rename_columns(VIEWS.names).cast(VIEWS)


def _scanned(scan: pa.Table) -> pa.Table:
    return scan.select(SCANNED.names).cast(SCANNED)


def _no_tiles(config: Config, sources: pa.Table) -> pa.Table:
    """A row without a rectangle for every scale that gave a source no tiles, with the reason."""
    rows = [dict.fromkeys(VIEWS.names) | row for row in _cuts_without_tiles(config, sources)]
    return pa.Table.from_pylist(rows, schema=VIEWS)


def _cuts_without_tiles(config: Config, sources: pa.Table) -> Iterator[dict[str, Any]]:
    multiple = get_family(config.model.family).size_multiple
    layouts = {c.name: concept_layout(config, c, multiple) for c in config.concepts if c.enabled}
    columns = sources.select(["concept", "path", "width", "height"]).to_pydict().values()
    for concept, path, width, height in zip(*columns, strict=True):
        for kind, scale, reason in cuts_without_tiles(layouts[concept], width, height):
            where = {"concept": concept, "path": path, "kind": kind, "scale": scale}
            yield where | {"dropped_reason": reason}


def read_rejects(context: Context, refs: dict[str, StageRef]) -> pa.Table:
    """The files that no sample was made of: stage, path and reason."""
    tables_ = [REJECTS.empty_table()]
    for name, ref in refs.items():
        if ref.rejects is not None:
            found = tables.get_table(context.store, ref.rejects)
            stage = pa.array([name] * found.num_rows, pa.string())
            tables_.append(with_columns(found, stage=stage).select(REJECTS.names))
    return pa.concat_tables(tables_)


def num_missing_captions(context: Context, version: Version) -> int:
    """How many sources are trained on without a caption, as the report counts them."""
    columns = ["concept", "path", "prompts", "prompt_origin"]
    return len(missing_captions(read_rows(context.store, version, columns)))


def _with_history(rejects: pa.Table, quarantine: pa.Table) -> pa.Table:
    """Rejects with when they were first seen and how often they were tried."""
    history = {
        (row["stage"], row["path"]): (row["first_seen"], row["attempts"])
        for row in quarantine.to_pylist()
    }
    names = zip(rejects["stage"].to_pylist(), rejects["path"].to_pylist(), strict=True)
    found = [history.get(name, (None, 1)) for name in names]
    return with_columns(
        rejects,
        first_seen=pa.array([seen for seen, _ in found], pa.string()),
        attempts=pa.array([attempts for _, attempts in found], pa.int32()),
    )


def _thumbnail(path: str) -> bytes | None:
    try:
        return make_thumbnail(read_bytes(path))
    except OSError:
        return None
