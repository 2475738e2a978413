"""Our training loop and the bare one in turns, over the same weights and the same optimizer.

One model serves both, so that neither has the luckier place in memory, and so that large models fit
at all. The median of the ratios of neighbouring turns counts: a busy machine slows both alike. The
ends of both loops wait for the device.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import torch

from benchmarks.bare_training import bare_step, ready
from benchmarks.measure import Timing, timed
from benchmarks.training_models import Case, step_flops
from tasks.train.batch import Batch, StepBatches
from tasks.train.loop import StepReport, silent_hooks, train
from tasks.train.state import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a comparison goes on."""

    rounds: int
    seconds: float
    """No further round begins after so many, but `at_least` are made."""
    at_least: int = 5
    steps: int = 1
    """Per turn."""
    warm_up: int = 2
    """Rounds that do not count: they fill caches, allocators and the optimizer's state."""


@dataclass(slots=True)
class Side:
    """One of the two loops."""

    runs: list[Timing] = field(default_factory=list)
    peak_gib: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a comparison found."""

    ratio: float
    """Our steps per second over those of the bare loop."""
    cpu_ratio: float
    """The same by CPU seconds of this process."""
    steps_per_second: float
    bare_steps_per_second: float
    utilisation: float
    """Model FLOPs per second of our loop over those of a large matrix product."""
    peak_gib: float
    bare_peak_gib: float
    wait_share: float
    """Of our loop's time, waiting for data."""
    others: float
    """Cores that other processes kept busy, on average."""
    rounds: int


def compare(
    training: Training,
    case: Case,
    ours: Iterator[StepBatches],
    batches: Sequence[Batch],
    limits: Limits,
) -> Figures:
    """Runs both loops in turns.

    Args:
        training: of `case`; both loops train it.
        case: what it is.
        ours: where our loop has its batches from.
        batches: those of the bare loop.
        limits: when it ends.
    """
    reports: list[StepReport] = []
    sides = {"ours": Side(), "bare": Side()}
    in_place = [ready(training, batch) for batch in batches]
    work = {
        "ours": our_turn(training, ours, reports, limits.steps),
        "bare": bare_turn(training, cycle(in_place), limits.steps),
    }
    begun, rounds = time.perf_counter(), -limits.warm_up
    while rounds < limits.rounds:
        if rounds >= limits.at_least and time.perf_counter() - begun > limits.seconds:
            break
        if rounds == 0:
            reports.clear()
            sides = {name: Side() for name in sides}
        for name in sorted(work, reverse=bool(rounds % 2)):
            take_turn(sides[name], work[name], training.device)
        rounds += 1
    return figures(training, case, sides, reports, limits.steps)


def our_turn(
    training: Training, data: Iterator[StepBatches], reports: list[StepReport], steps: int
) -> Callable[[], None]:
    """A function that trains so many steps with the product's loop."""
    hooks = replace(silent_hooks(lambda: False), on_step=reports.append)

    def turn() -> None:
        train(training, data, hooks, training.progress.step + steps)

    return turn


def bare_turn(training: Training, data: Iterator[Batch], steps: int) -> Callable[[], None]:
    """A function that trains so many steps with the bare loop."""
    step = bare_step(training)

    def turn() -> None:
        for batch in islice(data, steps):
            step(batch)

    return turn


def take_turn(side: Side, work: Callable[[], None], device: torch.device) -> None:
    """Runs and measures one turn of a loop."""
    reset_peak(device)

    def whole() -> None:
        work()
        finish(device)

    side.runs.append(timed(whole))
    side.peak_gib = max(side.peak_gib, peak_gib(device))


def figures(
    training: Training, case: Case, sides: dict[str, Side], reports: list[StepReport], steps: int
) -> Figures:
    """What the turns come to."""
    ours, bare = sides["ours"], sides["bare"]
    pairs = list(zip(bare.runs, ours.runs, strict=True))
    seconds = statistics.median(run.wall for run in ours.runs) / steps
    waited = sum(report.wait_seconds for report in reports)
    peak = matmul_flops(training.device, training.precision.dtype)
    return Figures(
        ratio=statistics.median(b.wall / o.wall for b, o in pairs),
        cpu_ratio=statistics.median(b.cpu / o.cpu for b, o in pairs),
        steps_per_second=1 / seconds,
        bare_steps_per_second=steps / statistics.median(run.wall for run in bare.runs),
        utilisation=step_flops(case) / seconds / peak,
        peak_gib=ours.peak_gib,
        bare_peak_gib=bare.peak_gib,
        wait_share=waited / sum(report.seconds for report in reports),
        others=statistics.mean(run.others for run in (*ours.runs, *bare.runs)),
        rounds=len(ours.runs),
    )


def show(name: str, found: Figures) -> None:
    """Prints a comparison."""
    print(
        f"{name}: {found.ratio:.3f} of the bare loop ({found.cpu_ratio:.3f} by CPU seconds); "
        f"{found.steps_per_second:.2f} steps/s, bare {found.bare_steps_per_second:.2f}\n"
        f"    model FLOPs utilisation {found.utilisation:.3f}; "
        f"peak memory {found.peak_gib:.2f} GiB, bare {found.bare_peak_gib:.2f}; "
        f"waiting for data {100 * found.wait_share:.2f} %; "
        f"{found.rounds} rounds, others kept {found.others:.2f} cores busy",
        flush=True,
    )


@cache
def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large product of square matrices: the best of several."""
    edge = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        torch.mm(left, right)
        finish(device)

    product()
    return 2 * edge**3 / min(timed(product).wall for _ in range(8))


def finish(device: torch.device) -> None:
    """Waits until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """From now on `peak_gib` counts anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_gib(device: torch.device) -> float:
    """The most memory in GiB: of tensors on a GPU, else of this whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kib) / 2**20
