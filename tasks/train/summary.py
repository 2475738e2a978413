"""The summary of a training, as `tilewright train --json` prints it."""

from collections.abc import Sequence
from typing import Any

from tasks.train.backup import list_backups
from tasks.train.events import loss_history, read_status
from tasks.train.spec import TrainSpec

FIRST_AND_LAST = 10


def summarize(spec: TrainSpec, seconds: float) -> dict[str, Any]:
    """What a run has come to; `epochs` are finished ones, paths are absolute."""
    status = read_status(spec.workspace)
    workspace = spec.workspace.absolute()
    return {
        "run_id": spec.run_id,
        "state": status["state"],
        "steps": status["step"],
        "epochs": status["epoch"],
        "losses": shorten(list(loss_history(workspace).values())),
        "outputs": list(status["outputs"]),
        "backups": [str(path) for path in list_backups(workspace / "backups")],
        "samples": [str(path) for path in sorted(workspace.glob("samples/*/*.png"))],
        "tensorboard": str(workspace / "tensorboard"),
        "resumed_from": None if spec.resume_from is None else str(spec.resume_from),
        "seconds": round(seconds, 3),
    }


def shorten(losses: Sequence[float]) -> list[float]:
    """The first and the last few of many losses."""
    if len(losses) <= 2 * FIRST_AND_LAST:
        return list(losses)
    return [*losses[:FIRST_AND_LAST], *losses[-FIRST_AND_LAST:]]
