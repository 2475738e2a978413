"""Invented training runs: the events that a recorder writes, and what else a page is made of."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.report.run_history import History, read_history
from tasks.report.run_page import Kept, Run

CONCEPTS = ("sea", "flowers")


def start(step: int, time: float, resumed_from: str | None = None, total: int = 1000) -> dict:
    return {
        "event": "start",
        "time": time,
        "step": step,
        "epoch": 0,
        "total_steps": total,
        "num_rows": 38,
        "trained_parameters": 1000,
        "device": "cpu",
        "resumed_from": resumed_from,
    }


def step(number: int, time: float, loss: float | None, **changes: Any) -> dict:
    return {
        "event": "step",
        "time": time,
        "step": number,
        "epoch": 0,
        "loss": loss,
        "smoothed_loss": None if loss is None else loss + 0.5,
        "learning_rates": {"denoiser": 1e-4 * number, "text_encoder_1": 1e-5 * number},
        "grad_norm": 0.1 * number,
        "samples_per_second": 8.0,
        "data_wait_seconds": 0.01,
        "seconds": 0.5,
        **changes,
    }


def validation(number: int, time: float, loss: float) -> dict:
    by_concept = {name: loss + place for place, name in enumerate(CONCEPTS)}
    facts = {"loss": loss, "by_concept": by_concept, "by_quantile": [loss + 1, loss - 0.5]}
    return {"event": "validation", "time": time, "step": number, **facts}


def trained(number: int, *, every: int = 10) -> Iterator[dict]:
    """The events of a training of so many steps that was never stopped."""
    yield start(0, 1000.0, total=number)
    for now in range(1, number + 1):
        yield step(now, 1000.0 + now / 2, 1 / math.sqrt(now))
        if now % every == 0:
            yield validation(now, 1000.0 + now / 2, 2 / now)
            for name in ("backup", "sample"):
                yield {
                    "event": name,
                    "time": 1000.0 + now / 2,
                    "step": now,
                    "path": "",
                    "paths": [],
                }


def make_run(history: History | None = None, **changes: Any) -> Run:
    facts: dict[str, Any] = {
        "run_id": "20261126-200608-harbour-0bce1d",
        "workspace": "/runs/20261126-200608-harbour-0bce1d",
        "state": "done",
        "history": read_history(trained(40)) if history is None else history,
        "config": {
            "model": {"base": "models/base", "family": "sd15"},
            "train": {"sample": {"prompts": ["a harbour", "a pier"]}, "seed": 42},
        },
        "dataset": "harbour@3",
        "dataset_digest": "00ff",
        "kept": [kept("output", None), kept("backup", 40), kept("backup", 30)],
        "images": {},
    }
    return Run(**(facts | changes))


def kept(kind: str, at_step: int | None) -> Kept:
    return Kept(kind=kind, step=at_step, path=f"{kind}s/{at_step}", num_bytes=2048, made_at=1e9)


def images(folder: Path, steps: int, prompts: int, size: int = 64) -> dict[int, dict[int, Path]]:
    """Noise, which no format makes small."""
    random = np.random.default_rng(0)
    found: dict[int, dict[int, Path]] = {}
    for at_step in range(10, 10 * steps + 1, 10):
        for number in range(prompts):
            path = folder / f"{at_step}-{number}.png"
            Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)).save(path)
            found.setdefault(at_step, {})[number] = path
    return found
