"""A training run as Markdown, for Prefect's artifacts: its curves, and its sample images."""

import base64
from typing import Any

from tasks.pages.markdown import escaped
from tasks.pages.safe import environment, plural
from tasks.report.curves import Chart, number
from tasks.report.run_charts import loss_chart, samples_per_second, validation_chart, wait_share
from tasks.report.run_page import PLOT, Run, at, run_prompts, size
from tasks.report.run_samples import Limits, sample_strips

MAX_BYTES = 256_000
"""Of an artifact: it is stored whole in the server's database, and shown whole in a browser."""
LIMITS = Limits(edge=112, columns=6, rows=16)
"""Of the sample grid."""
_MAX_PROMPT = 200
_ALONE = '{% from "curves.html" import curves %}{{ curves(chart, plot, standalone=True) }}'


def loss_markdown(run: Run) -> str:
    """The curves of the loss, and the newest numbers."""
    history = run.history
    steps = history.steps.values()
    total = history.facts.get("total_steps")
    told = [f"**{plural(history.last_step, 'step')}**{f' of {total:,}' if total else ''}"]
    last = history.steps.get(history.last_step)
    if last is not None and last.smoothed_loss is not None:
        told.append(f"smoothed loss **{number(last.smoothed_loss)}**")
    if history.validations:
        newest = history.validations[max(history.validations)]
        told.append(f"validation loss **{number(newest['loss'])}**")
    told.append(f"{number(samples_per_second(steps))} samples per second")
    told.append(f"{wait_share(steps):.1%} of the time waiting for data")
    charts = [chart for chart in (loss_chart(history), validation_chart(history)) if chart]
    return "\n\n".join([_title(run), " · ".join(told), *map(_chart, charts), _more(run)]) + "\n"


def samples_markdown(run: Run, max_bytes: int = MAX_BYTES) -> str:
    """The images of each prompt over the steps; last prompts are left out to keep `max_bytes`."""
    grid = sample_strips(run.images, run_prompts(run), LIMITS)
    steps = ", ".join(f"{step:,}" for step in grid.steps)
    parts = [_title(run), f"From left to right: after step {steps}."]
    left = max_bytes - sum(len(part.encode()) for part in parts) - 1000
    for row in grid.rows:
        (picture,) = row.pictures
        shown = f"![samples]({picture.uri})" if picture else "no image could be read"
        part = f"{escaped(row.prompt, _MAX_PROMPT) or '–'}\n\n{shown}"
        left -= len(part.encode()) + 2
        if left < 0:
            break
        parts.append(part)
    if (number_shown := len(parts) - 2) < grid.num_prompts:
        parts.append(f"The first {number_shown} of {plural(grid.num_prompts, 'prompt')}.")
    return "\n\n".join([*parts, _more(run)]) + "\n"


def files_table(run: Run) -> list[dict[str, Any]]:
    """Backups, saved models and the finished one, a row each."""
    return [
        {
            "what": one.kind,
            "step": "" if one.step is None else one.step,
            "size": size(one.num_bytes),
            "written": at(one.made_at),
            "path": f"{run.workspace}/{one.path}",
        }
        for one in run.kept
    ]


def _title(run: Run) -> str:
    return f"### {escaped(run.run_id, 120)}"


def _chart(chart: Chart) -> str:
    """A chart as a picture; its colours can be told on a dark page and on a light one."""
    svg = environment("tasks.report").from_string(_ALONE).render(chart=chart, plot=PLOT)
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.strip().encode()).decode("ascii")
    axis = ", on a logarithmic axis" if chart.is_log else ""
    return f"**{chart.title}**{axis}\n\n![{chart.title}]({uri})"


def _more(run: Run) -> str:
    return f"All of it: `tilewright report {run.workspace} --open`"
