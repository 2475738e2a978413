"""Arguments and options that several commands have."""

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
