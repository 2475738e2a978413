"""Report: the tables of a finished preparation, turned into the HTML page of its version."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage import tables
from storage.quarantine import read_quarantine
from storage.versions import Version, read_rows
from tasks.config.models import Config
from tasks.crops.layout import concept_layout, cuts_without_tiles
from tasks.dataset.settings import data_settings
from tasks.families import get_family
from tasks.files.reading import read_bytes
from tasks.pipeline.plan import stages_json
from tasks.report.build import build_report
from tasks.report.inputs import SCANNED, VIEWS
from tasks.report.thumbnails import make_thumbnail
from tasks.stage import Context, StageRef, as_array


def report_path(version: Version) -> str:
    """Where in the store the report of a version is."""
    return f"datasets/{version.name}/{version.number:06}.html"


def write_report(config: Config, version: Version, refs: dict[str, StageRef]) -> str:
    """Writes the report of a version into the store and gives its URI."""
    context = Context(config)
    prompts = tables.get_table(context.store, refs["prompts"].manifest)
    crops = tables.get_table(context.store, refs["crops"].manifest)
    rejects = read_quarantine(context.store)
    scan = _scanned(tables.get_table(context.store, refs["scan"].manifest))
    page = build_report(
        read_rows(context.store, version),
        crops=pa.concat_tables([_views(crops), _no_tiles(config, prompts)]),
        rejects=_of_this_dataset(rejects, config),
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


def _of_this_dataset(rejects: pa.Table, config: Config) -> pa.Table:
    """The rejects below the folders of the configuration; a store may hold other datasets' too."""
    folders = [concept.path.rstrip("/") + "/" for concept in config.concepts if concept.enabled]
    own = pa.array([False] * rejects.num_rows, pa.bool_())
    for folder in folders:
        own = pc.or_(own, as_array(pc.starts_with(rejects["path"], folder)))
    return rejects.filter(own)


def _thumbnail(path: str) -> bytes | None:
    try:
        return make_thumbnail(read_bytes(path))
    except OSError:
        return None
