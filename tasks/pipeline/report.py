"""Report: the tables of a dataset version, turned into its HTML page.

A run hands over what it just did; without one, everything is read from the store, so that a report
can be made at any time from a version alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from storage.digest import digest_json, hexkey
from storage.errors import NotFoundError
from storage.store import Store
from storage.versions import Version, get_version, read_rows
from tasks.config.models import Config, DataConfig
from tasks.config.training import TrainConfig
from tasks.pipeline import report_tables
from tasks.pipeline.epochs import epochs_of
from tasks.pipeline.plan import stages_json
from tasks.pipeline.thumbnails import thumbnails_of
from tasks.report import digest
from tasks.report.build import FORMAT, About, build_report
from tasks.report.inputs import Tables
from tasks.report.summary import missing_captions
from tasks.stage import Context, StageRef

FORMATS = f"{FORMAT}.{digest.FORMAT}"
"""Of a page and the digest beside it, which are made together."""
_HEAD_BYTES = 4000
"""So far into a page it has said what it was made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What is known of a version's making besides its own tables."""

    rejects: pa.Table
    counts: Mapping[str, Mapping[str, Any]]
    made_of: str


def report_path(version: Version) -> str:
    """Where in the store the report of a version is."""
    return f"datasets/{version.name}/{version.number:06}.html"


def _digest_path(version: Version) -> str:
    return f"datasets/{version.name}/{version.number:06}.digest.json"


def read_digest(store: Store, version: Version) -> dict[str, Any]:
    """The tables and pictures of a version's report, as `tasks.report.digest` makes them.

    Without tables and pictures where an older Tilewright made the report.
    """
    try:
        found: dict[str, Any] = json.loads(store.read_bytes(_digest_path(version)))
    except NotFoundError:
        found = {}
    return found if found.get("format") == digest.FORMAT else {"tables": {}, "photos": []}


def current_report(
    store: Store, version: Version, refs: Mapping[str, StageRef] | None = None
) -> str | None:
    """The URI of a version's report; None when there is none or it should be made anew.

    Rejected files are no part of a version: with `refs`, the report must tell of theirs.
    """
    path = report_path(version)
    if not (store.exists(path) and store.exists(_digest_path(version))):
        return None
    head = store.read_range(path, 0, min(_HEAD_BYTES, store.size(path))).decode("utf-8", "replace")
    wanted = f"{FORMATS}:" if refs is None else f'{_made_of(refs)}"'
    return store.uri(path) if f'<meta name="tilewright-report" content="{wanted}' in head else None


def write_report(config: Config, version: Version, refs: Mapping[str, StageRef]) -> str:
    """Writes the report of a version that a run made (or found) and gives its URI."""
    context = Context(config)
    counts = stages_json({name: ref.counts for name, ref in refs.items()})
    rejects = read_rejects(context, refs, only_files=True)
    made = Made(rejects=rejects, counts=counts, made_of=_made_of(refs))
    return _write(context.store, version, config, made)


def rewrite_report(store: Store, version: Version, config: Config | None = None) -> str:
    """Writes the report of a version from the store alone and gives its URI.

    The epochs are told for the training of `config`, else for one with default settings; all other
    settings are the version's own.
    """
    stages = version.meta["stages"]
    made = Made(
        rejects=report_tables.rejected(
            store, {n: ref.get("rejects") for n, ref in stages.items()}, only_files=True
        ),
        counts={name: ref["counts"] for name, ref in stages.items() if "counts" in ref},
        made_of=f"{FORMATS}:store",
    )
    return _write(store, version, version_config(store, version, config), made)


def version_config(store: Store, version: Version, given: Config | None) -> Config | None:
    """The settings that a version was made with, and the training of `given`.

    None when this Tilewright does not understand them.
    """
    settings = version.meta["config"]
    how = {"remainder": given.data.remainder} if given else {}
    values = {
        "store": {"url": store.url},
        "model": settings.get("model"),
        "data": {**settings.get("data", {}), **how},
        "concepts": settings.get("concepts"),
        "train": given.train if given else TrainConfig(),
    }
    try:
        return Config.model_validate(values)
    except ValidationError:
        return None


def read_rejects(
    context: Context, refs: Mapping[str, StageRef], *, only_files: bool = False
) -> pa.Table:
    """What could not be made, as `report_tables.rejected` tells it: stage, path and reason."""
    stages = {name: ref.rejects for name, ref in refs.items()}
    return report_tables.rejected(context.store, stages, only_files=only_files)


def num_missing_captions(context: Context, version: Version) -> int:
    """How many sources are trained on without a caption, as the report counts them."""
    columns = ["concept", "path", "prompts", "prompt_origin", "context"]
    return len(missing_captions(read_rows(context.store, version, columns)))


def _made_of(refs: Mapping[str, StageRef]) -> str:
    """What a page is made of besides the version: its format, and the tables of rejects."""
    rejects = {name: ref.rejects for name, ref in refs.items() if ref.rejects is not None}
    return f"{FORMATS}:{hexkey(digest_json('report', rejects))}"


def _write(store: Store, version: Version, config: Config | None, made: Made) -> str:
    rows = read_rows(store, version)
    parent = _parent(store, version)
    tables = Tables(
        rows=rows,
        views=report_tables.views(store, version, rows, config),
        scan=report_tables.scanned(store, version, rows),
        rejects=report_tables.with_history(store, made.rejects),
        previous=None if parent is None else read_rows(store, parent),
    )
    thumbnails = thumbnails_of(store, tables.scan, config.data if config else DataConfig())
    small = digest.report_digest(tables, thumbnails, report_tables.file_sizes(store))
    store.replace(_digest_path(version), json.dumps(small).encode())
    page = build_report(
        tables,
        About(
            meta=_meta(version, parent),
            counts=made.counts,
            outlook=None if config is None else epochs_of(config, rows, version.content_digest),
            buckets=report_tables.buckets(config),
            made_of=made.made_of,
        ),
        thumbnails=thumbnails,
    )
    store.replace(report_path(version), page.encode())
    return store.uri(report_path(version))


def _parent(store: Store, version: Version) -> Version | None:
    number = version.meta.get("parent")
    try:
        return None if number is None else get_version(store, version.name, number)
    except NotFoundError:
        return None


def _meta(version: Version, parent: Version | None) -> dict[str, Any]:
    settings = _settings(version)
    before = None if parent is None else _settings(parent)
    return {
        "name": version.name,
        "version": version.number,
        "created": version.meta["created_at"],
        "model": settings.get("model", {}).get("base"),
        "family": settings.get("model", {}).get("family"),
        "content": version.content_digest,
        "settings": settings,
        "parent": parent and {"version": parent.number, "settings": before},
    }


def _settings(version: Version) -> dict[str, Any]:
    return {name: value for name, value in version.meta["config"].items() if name != "digest"}
