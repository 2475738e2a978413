"""Measuring on a machine that others use too: wall and CPU seconds, turns, and who else was busy.

Loops that are compared run in turns, so that a busy minute hits them alike, and the best run of
each counts. `others` tells how far a run can be trusted: the cores that everything else kept busy.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Timing:
    """What one run took."""

    wall: float
    cpu: float
    """CPU seconds of this process, all threads."""
    others: float
    """Cores that other processes kept busy meanwhile, on average."""


def timed(work: Callable[[], object]) -> Timing:
    """Run something once."""
    busy, cpu, wall = _busy_seconds(), time.process_time(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Timing(wall, cpu, max(0.0, _busy_seconds() - busy - cpu) / wall)


def in_turns(
    loops: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    told: Callable[[str, Timing], None] | None = None,
) -> dict[str, list[Timing]]:
    """Run every loop once per round, one after the other.

    Args:
        loops: what to run, by name.
        rounds: how often.
        told: called with every run as it ends.
    """
    seen: dict[str, list[Timing]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, work in loops.items():
            seen[name].append(timed(work))
            if told is not None:
                told(name, seen[name][-1])
    return seen


def best(runs: Sequence[Timing]) -> Timing:
    """The run with the shortest wall time."""
    return min(runs, key=lambda run: run.wall)


def show(name: str, run: Timing, items: int) -> None:
    """Print one run of `items` items."""
    print(
        f"{name:<28}{items / run.wall:9.2f}/s {run.wall:8.2f} s wall {run.cpu:8.2f} s CPU "
        f"{1000 * run.cpu / items:9.2f} ms CPU each   others {run.others:.2f} cores",
        flush=True,
    )


def verdict(what: str, *, good: bool) -> bool:
    """Print whether a bound holds, and hand that on."""
    print(f"{what}: {'ok' if good else 'MISSED'}", flush=True)
    return good


def load() -> str:
    """The machine's load averages and cores, for the record."""
    one, five, _ = os.getloadavg()
    return f"load {one:.2f} (1 min), {five:.2f} (5 min) on {os.cpu_count()} cores"


def _busy_seconds() -> float:
    """CPU seconds of all processes since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "irq", 0) + times.softirq)
