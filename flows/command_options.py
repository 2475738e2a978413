"""Arguments and options that several commands have, and commands as people type them."""

import shlex
from collections.abc import Sequence
from typing import Annotated

import typer

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="The TOML file of the run.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one setting; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also show Prefect's own log.")]
Dataset = Annotated[
    str | None,
    typer.Option(metavar="NAME@N", help="A dataset version instead of the latest one."),
]
Resume = Annotated[
    str | None, typer.Option(metavar="RUN_ID", help="Go on with a run from its last backup.")
]
NewData = Annotated[
    bool, typer.Option("--new-data", help="With --resume: go on although the dataset changed.")
]
StopAfterSteps = Annotated[
    int | None, typer.Option(min=1, help="Stop early; schedules stay as they are.")
]
Size = Annotated[
    int | None, typer.Option(min=8, metavar="PIXELS", help="Default: the training resolution.")
]


def as_typed(*words: str, settings: Sequence[str] | None = None) -> str:
    """A command of ours, with its `--set` options, as people would type it."""
    options = [part for setting in settings or () for part in ("--set", setting)]
    return shlex.join(["tilewright", *words, *options])
