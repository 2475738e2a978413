"""The HTML page of a training run: one self-contained file without a script."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from tasks.pages.safe import environment, policy_hash
from tasks.report import curves
from tasks.report.run_charts import run_charts, samples_per_second, wait_share
from tasks.report.run_history import History
from tasks.report.run_samples import Images, Limits, sample_grid

LIMITS = Limits(edge=192, columns=10, rows=24)
"""Of the sample grid."""
MAX_NOTES = 200
PLOT = {
    "width": curves.WIDTH,
    "height": curves.HEIGHT,
    "left": curves.LEFT,
    "right": curves.WIDTH - curves.RIGHT,
    "top": curves.TOP,
    "bottom": curves.HEIGHT - curves.BOTTOM,
}
"""The frame of a chart, for `curves.html`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A backup or a model that is in the workspace."""

    kind: str
    """backup, save or output."""
    step: int | None
    path: str
    """Below the workspace."""
    num_bytes: int
    made_at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a page is made of."""

    run_id: str
    workspace: str
    state: str
    """As status.json has it; "" where nothing was trained yet."""
    history: History
    config: Mapping[str, Any]
    """The settings, as config.json has them."""
    dataset: str
    """`name@version`."""
    dataset_digest: str
    kept: Sequence[Kept]
    images: Images


def build_run_page(run: Run) -> str:
    """Return the page of a run as HTML."""
    style = "\n".join(
        files("tasks.report").joinpath(f).read_text() for f in ("report.css", "run.css")
    )
    history = run.history
    steps = history.steps.values()
    grid = sample_grid(run.images, run_prompts(run), LIMITS)
    template = environment("tasks.report").get_template("run.html")
    return template.render(
        run=run,
        history=history,
        made_from=_made_from(run),
        last=history.steps.get(history.last_step),
        number=curves.number,
        speed=samples_per_second(steps),
        wait_share=wait_share(steps),
        duration=duration(history.seconds),
        charts=run_charts(history),
        plot=PLOT,
        grid=grid,
        notes=history.notes[-MAX_NOTES:],
        at=at,
        size=size,
        settings_text=json.dumps(run.config, indent=2, ensure_ascii=False),
        style=Markup(style),
        style_hash=policy_hash(style),
    )


def run_prompts(run: Run) -> list[str]:
    """The prompts that samples are drawn of."""
    prompts = run.config.get("train", {}).get("sample", {}).get("prompts", ())
    return [str(prompt) for prompt in prompts]


def at(time: float | None) -> str:
    """A time, given in seconds since 1970, for people."""
    return "" if time is None else f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"


def size(num_bytes: int) -> str:
    """A number of bytes, for people."""
    units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
    least, unit = next((one for one in units if num_bytes >= one[0]), (1, "bytes"))
    return f"{num_bytes / least:.3g} {unit}" if least > 1 else f"{num_bytes} bytes"


def duration(seconds: float) -> str:
    """A number of seconds, for people: 12 s, 3:05 min, 12:04 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def _made_from(run: Run) -> dict[str, object]:
    """Where the run came from, by name; None for what is not known."""
    model, train = run.config.get("model", {}), run.config.get("train", {})
    facts, calls = run.history.facts, run.history.calls
    return {
        "run": run.run_id,
        "dataset version": run.dataset or None,
        "content of the dataset": run.dataset_digest or None,
        "rows trained": facts.get("num_rows"),
        "base model": model.get("base"),
        "family": model.get("family"),
        "method": train.get("method", {}).get("kind"),
        "trained parameters": facts.get("trained_parameters"),
        "device": facts.get("device"),
        "optimizer": train.get("optimizer", {}).get("kind"),
        "batch size": train.get("batch_size"),
        "seed": train.get("seed"),
        "begun": at(calls[0].began) if calls else None,
        "last event": at(calls[-1].last) if calls else None,
        "resumed from": ", ".join(f"step {step:,}" for step in run.history.resumed_at) or None,
        "output": model.get("output"),
        "output format": model.get("output_format"),
        "workspace": run.workspace,
    }
