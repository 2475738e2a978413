"""`tilewright gc`: what of a store nobody needs; marks it, and deletes what was marked before."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_options import AsJson
from flows.command_outcome import finish, refuse, say
from flows.dataset_rows import existing_store
from storage.errors import NotFoundError
from storage.store import Store
from tasks.config.loading import load_config

VERSION = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)@([0-9]+)")
Names = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="NAME@N", help="Keep this version for good; may be repeated."),
]


def gc(
    place: Annotated[str, typer.Argument(help="A TOML file or the place of a store.")],
    *,
    mark: Annotated[bool, typer.Option("--mark", help="Note what may be deleted later.")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what was marked before the grace period.")
    ] = False,
    keep_versions: Annotated[
        int, typer.Option(min=1, metavar="N", help="Keep the newest N versions of each dataset.")
    ] = 3,
    grace_hours: Annotated[
        float, typer.Option(min=0, metavar="H", help="Hours between --mark and --delete.")
    ] = 24.0,
    captions: Annotated[
        bool, typer.Option("--captions", help="Generated captions may go too; edits never do.")
    ] = False,
    keep: Names = None,
    release: Annotated[
        list[str] | None,
        typer.Option("--release", metavar="NAME@N", help="Take a --keep back; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what no dataset version needs any more; with --mark and --delete, free its space."""

    def work(log: Path) -> dict[str, Any]:
        url, workspace = place_of(place)
        store = existing_store(url)
        _keep(store, keep or (), release or ())
        from tasks.gc.collect import as_json, collect
        from tasks.gc.roots import Rules

        rules = Rules(keep_versions=keep_versions, grace_hours=grace_hours, captions=captions)
        return as_json(collect(store, rules, workspace=workspace, mark=mark, delete=delete))

    finish("gc", work, show_garbage, as_json=as_json)


def place_of(config_or_store: str) -> tuple[str, Path | None]:
    """The URL of a store, and the folder of runs that a configuration names."""
    if not config_or_store.endswith(".toml"):
        return config_or_store, None
    config = load_config(config_or_store, checks=False)
    return config.store.url, Path(config.workspace)


def _keep(store: Store, keep: Sequence[str], release: Sequence[str]) -> None:
    from tasks.gc.kept import keep_version, release_version

    wanted = [("--keep", one) for one in keep] + [("--release", one) for one in release]
    for option, reference in wanted:
        match = VERSION.fullmatch(reference)
        if match is None:
            refuse(option, "must be NAME@NUMBER", reference)
        try:
            change = keep_version if option == "--keep" else release_version
            change(store, match[1], int(match[2]))
        except NotFoundError as error:
            refuse(option, str(error), reference)


def show_garbage(told: dict[str, Any]) -> None:
    """The summary for people."""
    from tasks.report.run_page import size

    for one in told["kept"]:
        say(f"keeping {one['dataset']}@{one['version']}: {one['why']}")
    for one in told["garbage"]["groups"]:
        say(f"{one['what']:<12}{one['files']:>8,} files{size(one['bytes']):>12}  {one['why']}")
    say(f"garbage: {_total(told['garbage'])}")
    for plan in told["plans"]:
        when = "may be deleted now" if plan["due"] else f"may be deleted from {plan['due_at']}"
        say(f"marked {plan['made_at']}: {_total(plan)}; {when}")
    if told["deleted"] is not None:
        say(f"deleted {_total(told['deleted'])}")
    if told["marked"] is not None:
        say(f"marked {_total(told['marked'])} now")
    if told["dry_run"]:
        say("nothing was changed: --mark notes what may go, --delete deletes what was noted")


def _total(files: dict[str, Any]) -> str:
    from tasks.report.run_page import size

    return f"{files['files']:,} files, {size(files['bytes'])}"
