"""Estimates: how long a stage's missing items will take and how large they will be.

What a stage has to do is measured in units that its work is proportional to. Each run notes how
many there were and how long they took, and a plan holds that against what is missing now.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.rates import Rate
from tasks.arrow import first_of_each

NEWEST = 5
"""So many records make an estimate."""
ENCODES = ("text", "latents")
"""Stages that run on the GPU where there is one."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What one partition of a stage took."""

    num_left: int
    """Items that it had to make."""
    units: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stage's missing items will take."""

    seconds: float
    nbytes: float
    num_runs: int
    """Earlier runs that it was made from; 0 when nothing is to be done."""

    def as_json(self) -> dict[str, Any]:
        """The estimate as `plan --json` prints it."""
        runs = f"{self.num_runs} earlier run{'s' if self.num_runs != 1 else ''}"
        told = runs if self.num_runs else "nothing to do"
        return {"seconds": round(self.seconds, 2), "bytes": round(self.nbytes), "from": told}


def _file_bytes(missing: pa.Table) -> float:
    return float(pc.sum(missing["size"]).as_py() or 0)


def _source_megapixels(missing: pa.Table) -> float:
    sources = first_of_each(missing, "source_id")
    return _megapixels(sources["original_width"], sources["original_height"])


def _target_megapixels(missing: pa.Table) -> float:
    return _megapixels(missing["bucket_width"], missing["bucket_height"])


def _megapixels(widths: pa.ChunkedArray, heights: pa.ChunkedArray) -> float:
    pixels = pc.sum(pc.multiply(pc.cast(widths, pa.int64()), pc.cast(heights, pa.int64())))
    return (pixels.as_py() or 0) / 1e6


SIZES: Mapping[str, Callable[[pa.Table], float]] = {
    "scan": _file_bytes,
    "crops": _source_megapixels,
    "masks": _target_megapixels,
    "latents": _target_megapixels,
}
"""The measure of a stage's missing rows; a stage that is not here is measured in items."""


def units(stage: str, missing: pa.Table) -> float:
    """How much work missing rows of a stage are, in its own measure."""
    measure = SIZES.get(stage)
    return float(missing.num_rows) if measure is None else measure(missing)


def device_kind(stage: str) -> str:
    """Where a stage's work runs here, cpu or cuda; torch is asked only where it is loaded."""
    if stage not in ENCODES:
        return "cpu"
    if torch := sys.modules.get("torch"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if Path("/proc/driver/nvidia/gpus").is_dir() else "cpu"


def estimate(rates: Sequence[Rate], stage_id: str, device: str, amount: float) -> Estimate | None:
    """What an amount of units will take, from records with the newest first; None without any.

    Records of the same stage_id and kind of device are best; then those of the same kind of device,
    since another model or data type matters less than another device.
    """
    tiers: list[Callable[[Rate], bool]] = [
        lambda rate: rate.stage_id == stage_id and rate.device == device,
        lambda rate: rate.device == device,
        lambda rate: rate.stage_id == stage_id,
        lambda rate: True,
    ]
    usable = [rate for rate in rates if rate.units > 0]
    chosen = next((found for tier in tiers if (found := list(filter(tier, usable)))), [])[:NEWEST]
    if not chosen:
        return None
    weights = [rate.units for rate in chosen]
    seconds = weighted_median([rate.seconds / rate.units for rate in chosen], weights)
    nbytes = weighted_median([rate.nbytes / rate.units for rate in chosen], weights)
    return Estimate(seconds * amount, nbytes * amount, len(chosen))


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value below which half of the weight lies.

    A run of two items spends its time on loading the model: weighed by their units, such runs do
    not spoil the estimate of a large one.
    """
    half, below = sum(weights) / 2, 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        below += weight
        if below >= half:
            return value
    raise ValueError("there is no median of nothing")


def total(estimates: Mapping[str, Estimate | None]) -> dict[str, Any] | None:
    """The sum over all stages; `unknown` lists those that it lacks. None when it would be empty."""
    known = [one for one in estimates.values() if one is not None]
    unknown = [name for name, one in estimates.items() if one is None]
    if unknown and not any(one.num_runs for one in known):
        return None
    seconds, nbytes = sum(one.seconds for one in known), sum(one.nbytes for one in known)
    return {"seconds": round(seconds, 2), "bytes": round(nbytes), "unknown": unknown}
