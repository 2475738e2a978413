"""`tilewright lineage`: the data, settings and code that a model comes from."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_options import AsJson
from flows.command_outcome import finish, refuse
from storage.errors import NotFoundError, StorageError

MODEL = "MODEL"


def lineage(
    model: Annotated[
        str,
        typer.Argument(
            metavar=MODEL,
            help="A model's file or folder, a backup, a run's folder, or a run's id with --store.",
        ),
    ],
    *,
    store: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Where its run is: a TOML file or a store."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="PATH_OR_ID", help="What of this photo went into the model."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model was made of: run, dataset version, stages and photos."""

    def work(log: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
            return find_lineage(model, store, source, Path(folder))

    finish("lineage", work, _show, as_json=as_json)


def find_lineage(model: str, place: str | None, source: str | None, folder: Path) -> dict[str, Any]:
    """The summary of the command; `folder` takes what is copied out of a store.

    Raises:
        ConfigError: the model, its run or the photo is not known, or the lineage is damaged.
    """
    from tasks.lineage.record import read_part_rows, read_record
    from tasks.lineage.sources import list_sources
    from tasks.train.events import read_status

    workspace, written_with = _workspace(model, place, folder)
    try:
        record, digest = read_record(workspace)
        tables = [read_part_rows(workspace, part) for part in record["trained"]]
    except NotFoundError as error:
        why = "an older Tilewright trained it, it could not be written, or no training has begun"
        refuse(MODEL, f"has no lineage: {error}; {why}", model)
    except StorageError as error:
        refuse(MODEL, f"its lineage cannot be used: {error}", model)
    status = read_status(workspace)
    for part, rows in zip(record["trained"], tables, strict=True):
        part["sources"] = list_sources(rows)
    told = {
        "model": model,
        "run_id": record["run_id"],
        "workspace": None if folder in workspace.parents else str(workspace.absolute()),
        "state": status.get("state"),
        "step": status.get("step"),
        "lineage": digest,
        "as_written": None if written_with is None else written_with == digest,
        "base": record["base"],
        "trained": record["trained"],
    }
    if source is not None:
        told["source"] = _source(record["trained"], tables, source)
    return told


def _workspace(model: str, place: str | None, folder: Path) -> tuple[Path, str | None]:
    """The workspace of a model's run, and the digest of the lineage that the model names."""
    from flows.run_places import find_runs, named_run
    from tasks.lineage.origin import is_run_folder, origin_of, workspaces_near

    path = Path(model).expanduser()
    if is_run_folder(path):
        return path, None
    if not path.exists():
        if place is None:
            refuse(MODEL, "is no file or folder; the id of a run needs --store PLACE", model)
        return named_run(find_runs(place), model, MODEL, folder, _is_read), None
    try:
        origin = origin_of(path)
    except (ValueError, OSError) as error:
        refuse(MODEL, str(error), model)
    if place is not None:
        runs = find_runs(place)
        return named_run(runs, origin.run_id, "--store", folder, _is_read), origin.lineage
    near = next(filter(is_run_folder, workspaces_near(path, origin.run_id)), None)
    if near is None:
        why = f"comes from run {origin.run_id}, which is not near it; give its store by --store"
        refuse(MODEL, why, model)
    return near, origin.lineage


def _is_read(inner: Path) -> bool:
    """Whether a lineage is read from a file of a run."""
    return len(inner.parts) == 1 and inner.suffix in (".json", ".parquet")


def _source(parts: list[dict[str, Any]], tables: list[Any], wanted: str) -> dict[str, Any]:
    """What of a photo went into each part, and whether its file is as it was."""
    from tasks.lineage.sources import describe_row, file_state, find_source

    told: dict[str, Any] = {}
    for part, table in zip(parts, tables, strict=True):
        try:
            rows = find_source(table, wanted).to_pylist()
        except ValueError as error:
            refuse("--source", str(error), wanted)
        if not rows:
            continue
        here = str(Path(wanted).absolute())
        path = here if Path(wanted).is_file() else rows[0]["path"]
        told = {
            "source_id": rows[0]["source_id"].hex(),
            "seen_under": sorted({row["path"] for row in rows}),
            "path": path,
            "file": file_state(path, rows[0]["source_id"]),
            "trained": [
                *told.get("trained", ()),
                {"from_step": part["from_step"], "rows": [describe_row(row) for row in rows]},
            ],
        }
    if not told:
        refuse("--source", "nothing of this photo went into the model", wanted)
    return told


def _show(told: dict[str, Any]) -> None:
    """The answer for people, on standard output as that of `show`."""
    from flows.lineage_text import lineage_lines, source_lines

    lines: Iterator[str] = source_lines(told) if "source" in told else lineage_lines(told)
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
