"""`tilewright report`: where the page of a dataset version or of a training run is."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_options import AsJson, Dataset
from flows.command_outcome import finish, refuse


def report(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="A TOML file, the place of a store, or a run's folder."
        ),
    ],
    *,
    dataset: Dataset = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="A training run; latest: the newest one.")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print where the report of a dataset version or a run is; make it if there is none."""
    from flows import dataset_report, run_report
    from tasks.train.report import is_run

    def work(log: Path) -> dict[str, Any]:
        if run is None and not is_run(Path(place)):
            return dataset_report.find_report(place, dataset, open_it=open_it)
        if dataset is not None:
            refuse("--dataset", "says nothing of a run; leave it out", dataset)
        return run_report.find_run_report(place, run, open_it=open_it)

    finish("report", work, show_report, as_json=as_json)


def show_report(summary: dict[str, Any]) -> None:
    """The address alone, for other commands to read."""
    sys.stdout.write(f"{summary['report']}\n")
    sys.stdout.flush()
