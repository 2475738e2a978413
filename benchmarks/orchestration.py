"""What Prefect costs: a run that finds everything cached, and a stage of many partitions.

    python -m benchmarks.orchestration [--partitions 1000] [--seconds 1]

With a real local server. The second and later `tilewright run` of the demo count as whole commands,
imports and all. The stage is the real one of the flow, with its tasks, states and progress, whose
partitions do nothing but sleep; the bare loop sleeps as often. Exit code 1: a bound was missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Timing, best, load, timed, verdict

NO_OP_SECONDS, ROUNDS = 6.0, 3
MAX_OVERHEAD = 0.05
BARE_PARTITIONS = 20
TILEWRIGHT = Path(sys.executable).with_name("tilewright")


def main() -> int:
    """Measure, print every run, and tell whether the bounds hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0, help="that each partition sleeps")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            del os.environ[name]
        os.environ |= {"TILEWRIGHT_HOME": str(Path(folder) / "home"), "HF_HUB_OFFLINE": "1"}
        try:
            cheap = no_op(Path(folder) / "demo")
            small = partitions(Path(folder), given.partitions, given.seconds)
        finally:
            subprocess.run([TILEWRIGHT, "down"], capture_output=True, check=False)
    print(load())
    return 0 if cheap and small else 1


def no_op(folder: Path) -> bool:
    """Whether the demo's second run is quick enough."""
    set_up = [sys.executable, "-m", "deployments.demo.set_up", str(folder)]
    subprocess.run(set_up, check=True, capture_output=True)
    command = [TILEWRIGHT, "run", folder / "demo.toml", "--json"]

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True)

    show("first run of the demo", timed(run))
    runs = [timed(run) for _ in range(ROUNDS)]
    for one in runs:
        show("run again", one)
    wall = best(runs).wall
    return verdict(f"{wall:.2f} s, bound {NO_OP_SECONDS} s", good=wall <= NO_OP_SECONDS)


def partitions(folder: Path, number: int, seconds: float) -> bool:
    """Whether a stage of so many partitions spends little besides their own seconds."""
    bare = timed(lambda: [time.sleep(seconds) for _ in range(BARE_PARTITIONS)])
    show(f"bare loop, {BARE_PARTITIONS} partitions", bare)
    flow = timed(lambda: sleeping_stage(folder, number, seconds))
    show(f"stage in a flow, {number} partitions", flow)
    overhead = flow.wall / (bare.wall / BARE_PARTITIONS * number) - 1
    told = f"{overhead:.2%} of {seconds:g} s partitions, bound {MAX_OVERHEAD:.0%}"
    return verdict(told, good=overhead <= MAX_OVERHEAD)


def sleeping_stage(folder: Path, number: int, seconds: float) -> None:
    """Runs a stage inside a flow; only what a partition does and what is planned are other."""
    from flows.local_server import ensure_server
    from flows.run_log import quiet_prefect

    quiet_prefect(verbose=False)
    ensure_server()
    from prefect import flow

    from tasks.config.loading import load_config
    from tasks.pipeline import task
    from tasks.pipeline.estimates import Worked
    from tasks.pipeline.run import StagePlan
    from tasks.runners.task import Workers
    from tasks.stage import StageCounts, StageRef

    counts = StageCounts(wanted=number, computed=number, new=number)

    def plan(config: Any, name: str, upstream: Any) -> StagePlan:
        return StagePlan(name, "0" * 32, {}, "", "", number, counts, "")

    def work(config: Any, stage_plan: StagePlan, part: int) -> Worked:
        time.sleep(seconds)
        return Worked(1, 1.0, seconds)

    def seal(config: Any, stage_plan: StagePlan, done: list[Worked]) -> StageRef:
        return StageRef(stage_plan.stage, stage_plan.stage_id, "", None, len(done), counts)

    task.plan_stage, task.work_partition, task.seal_stage = plan, work, seal
    config = load_config(folder / "demo" / "demo.toml")

    @flow(name="benchmark", persist_result=False)
    def run() -> None:
        with Workers(config.workers) as workers:
            task.run_stage(config, "scan", {}, workers)

    run()


def show(what: str, timing: Timing) -> None:
    """Print a line about a run."""
    print(
        f"{what:<36}{timing.wall:9.2f} s wall, {timing.cpu:7.2f} s CPU here, "
        f"others kept {timing.others:.2f} cores busy",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
