"""The artifacts of a preparation in the Prefect UI; each run is an entry in the history of keys."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.report.prepared_markdown import PreparedRun, prepared_markdown


def publish_report(name: str, uri: str) -> None:
    """Leads from the Prefect run to the HTML report of a version, `name@number`.

    Browsers follow no link from a web page to a file, so the path and the command stand beside it.
    """
    link = uri if "://" in uri else Path(uri).as_uri()
    command = f"tilewright report STORE --dataset {name} --open"
    text = f"[Report of {name}]({link})\n\n`{uri}`\n\nOpen it with `{command}`."
    create_markdown_artifact(markdown=text, key="report", description=f"{name}: report")


def publish_run(run: PreparedRun, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """The counts of the stages, the tables of the dataset, and all of it on one page.

    Tables without rows are left out.
    """
    told = f"{run.dataset['name']}@{run.dataset['version']}"
    counts = [
        {"stage": name, **one, "reasons": ", ".join(one["reasons"])}
        for name, one in run.stages.items()
    ]
    with suppress(httpx.HTTPError):  # the version is made: it does not fail for want of a picture
        for key, rows in {"stages": counts, **tables}.items():
            if rows:
                shown = [dict(row) for row in rows]
                create_table_artifact(table=shown, key=key, description=f"{told}: {key}")
        page = prepared_markdown(run)
        create_markdown_artifact(markdown=page, key="run-report", description=f"{told}: run")
