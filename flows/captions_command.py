"""`tilewright captions`: what tiles train on, as a table and as a page, for people to change."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import preconditions
from flows.command_options import AsJson, ConfigFile, Settings, as_typed
from flows.command_outcome import finish, refuse, say, stderr
from flows.output_file import require_folder, write_new
from flows.terminal import show_progress

if TYPE_CHECKING:
    from tasks.config.models import Config

STDOUT = "-"
app = typer.Typer(
    help="See, change and approve the captions of tiles.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("export")
def export_captions(
    config: ConfigFile,
    file: Annotated[
        str, typer.Argument(metavar="FILE.csv", help="To write; - is standard output.")
    ],
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Also tiles that are not captioned.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write captions into a table for a spreadsheet, to be edited and imported again."""

    def work(log: Path) -> dict[str, Any]:
        target = Path(file).expanduser()
        _require_target(file, target, force=force, as_json=as_json)
        checked = _prepared_config(config, settings)
        from tasks.captions.csv_file import write_rows
        from tasks.pipeline.caption_table import table_rows
        from tasks.pipeline.captions import captioned

        with show_progress(stderr):
            rows = table_rows(captioned(checked), every=every)
        if file == STDOUT:
            sys.stdout.buffer.write(write_rows(rows))
            sys.stdout.flush()
        else:
            write_new(target, write_rows(rows), "FILE.csv", replace=force)
        origins = dict(Counter(row.origin for row in rows).most_common())
        return {"file": file, "rows": len(rows), "origins": origins}

    def show(summary: dict[str, Any]) -> None:
        told = ", ".join(f"{number:,} {origin}" for origin, number in summary["origins"].items())
        say(f"{summary['rows']:,} captions written to {file}{f': {told}' if told else ''}")
        if not summary["rows"]:
            say("no tile is captioned; --all writes every tile")
        elif file != STDOUT:
            words = as_typed("captions", "import", config, file, settings=settings)
            say(f"edit the column caption, then: {words}")

    finish("captions-export", work, show, as_json=as_json)


@app.command("import")
def import_captions(
    config: ConfigFile,
    file: Annotated[str, typer.Argument(metavar="FILE.csv", help="An edited table.")],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Take the edited captions of a table over; the next run trains on them."""

    def work(log: Path) -> dict[str, Any]:
        data = _read(file)
        checked = _prepared_config(config, settings)
        from tasks.pipeline.caption_table import import_table

        with show_progress(stderr):
            done = import_table(checked, data, file)
        counts = {"edited": done.edited, "withdrawn": done.withdrawn, "unchanged": done.unchanged}
        return {"file": file, **counts}

    def show(summary: dict[str, Any]) -> None:
        counts = (f"{summary[name]:,} {name}" for name in ("edited", "withdrawn", "unchanged"))
        say(f"captions: {', '.join(counts)}")
        if summary["edited"] or summary["withdrawn"]:
            say(f"next: {as_typed('prepare', config, settings=settings)}")

    finish("captions-import", work, show, as_json=as_json)


@app.command("sheet")
def show_sheet(
    config: ConfigFile,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make a page of captions beside the pixels that they are of, and print where it is."""

    def work(log: Path) -> dict[str, Any]:
        checked = _prepared_config(config, settings)
        from flows.web_page import local_page, open_page
        from tasks.pipeline.caption_sheet import collect_sheet, sheet_path, write_sheet
        from tasks.pipeline.captions import captioned
        from tasks.stage import Context

        with show_progress(stderr):
            sheet = collect_sheet(checked, captioned(checked))
        page = write_sheet(checked, sheet)
        if open_it:
            name = f"{checked.data.name}-captions.html"
            open_page(local_page(Context(checked).store, sheet_path(checked), name))
        facts = {"origins": dict(sheet.origins), "unusable": dict(sheet.unusable)}
        return {
            "page": page,
            "captions": sheet.total,
            "shown": len(sheet.cards),
            **facts,
            "failed": dict(sheet.failures),
        }

    def show(summary: dict[str, Any]) -> None:
        # The address alone, for other commands to read.
        sys.stdout.write(f"{summary['page']}\n")
        sys.stdout.flush()

    finish("captions-sheet", work, show, as_json=as_json)


@app.command("approve")
def approve(config: ConfigFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Approve all captions that a run would use now, for `review_captions`."""

    def work(log: Path) -> dict[str, Any]:
        checked = _prepared_config(config, settings)
        from tasks.pipeline.captions import approve_captions

        with show_progress(stderr):
            return {"approved": approve_captions(checked)}

    def show(summary: dict[str, Any]) -> None:
        number = summary["approved"]
        say(f"{number:,} captions approved" if number else "no caption was left to approve")

    finish("captions-approve", work, show, as_json=as_json)


@app.command("drop")
def drop_tiles(
    config: ConfigFile,
    names: Annotated[
        list[str], typer.Argument(metavar="TILE...", help="Numbers from the sheet of captions.")
    ],
    restore: Annotated[bool, typer.Option("--restore", help="Take them back in.")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Take tiles out of training, or back in; nothing is deleted."""

    def work(log: Path) -> dict[str, Any]:
        checked = _prepared_config(config, settings)
        from tasks.pipeline.captions import drop_views

        with show_progress(stderr):
            changed, named = drop_views(checked, names, dropped=not restore)
        if named.unknown:
            told = "names no tile, or several: take the numbers from `tilewright captions sheet`"
            refuse("TILE", told, ", ".join(named.unknown))
        return {"restored" if restore else "dropped": changed}

    def show(summary: dict[str, Any]) -> None:
        for what, number in summary.items():
            say(f"{number:,} {what}; next: {as_typed('prepare', config, settings=settings)}")

    finish("captions-drop", work, show, as_json=as_json)


def _prepared_config(config: str, settings: list[str] | None) -> "Config":
    """The config, once it is known to be usable and to have a store."""
    checked = preconditions.usable_config(config, settings, create_store=False, download=False)
    from storage.errors import NotFoundError
    from storage.store import open_store

    url = checked.store.url
    try:
        open_store(url, create=False)
    except NotFoundError as error:
        words = as_typed("prepare", config, settings=settings)
        refuse("store.url", f"{error}; nothing was prepared yet: `{words}` comes first", url)
    return checked


def _require_target(file: str, target: Path, *, force: bool, as_json: bool) -> None:
    if file == STDOUT:
        if as_json:
            refuse("FILE.csv", "cannot be standard output, where --json prints its object", file)
        return
    if not force and (target.exists() or target.is_symlink()):
        refuse("FILE.csv", "is there already; name another, or add --force to overwrite it", file)
    require_folder(target, "FILE.csv")


def _read(file: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        refuse("FILE.csv", f"cannot be read: {error.strerror}", file)
