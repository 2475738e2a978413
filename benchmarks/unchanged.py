"""Nothing changed: the second `tilewright prepare` of 10,000 small images, as a command.

    python -m benchmarks.unchanged [--images 10000]

The whole command counts, imports and all, with the local server up. The first preparation, which
fills the store, is done by the same command. Exit code 1: the bound was missed, or anything was
computed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.measure import Timing, best, load, verdict

SECONDS = 6.0
ROUNDS = 3
SIZE = (64, 48)
TILEWRIGHT = Path(sys.executable).with_name("tilewright")
RUN_TOML = """
[store]
url = "store"
[model]
family = "sd15"
base = "model"
[data]
name = "bench"
resolution = "64"
encode_batch_size = 64
[[concepts]]
name = "photos"
path = "photos"
[train.method]
kind = "lora"
"""


def main() -> int:
    """Measure, print every run, and tell whether the bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it filled")
    given = parser.parse_args()
    if given.keep is not None:
        return measure(given.keep, given.images)
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), given.images)


def measure(folder: Path, images: int) -> int:
    """Fill a store, prepare again three times, and tell whether the bound holds."""
    env = {**os.environ, "TILEWRIGHT_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    env = {name: value for name, value in env.items() if not name.startswith("PREFECT_")}
    if not (folder / "run.toml").exists():
        make_project(folder, images)
    try:
        show("first", *prepare(folder, env), images)
        runs = []
        for _ in range(ROUNDS):
            result, timing, peak = prepare(folder, env)
            show("unchanged", result, timing, peak, images)
            runs.append((timing, computed(result)))
    finally:
        subprocess.run([TILEWRIGHT, "down"], env=env, capture_output=True, check=False)
    fastest = best([timing for timing, _ in runs])
    print(load())
    nothing = verdict("0 items computed", good=not any(count for _, count in runs))
    quick = verdict(
        f"{fastest.wall:.2f} s, bound {SECONDS} s for 10000 images", good=fastest.wall <= SECONDS
    )
    return 0 if nothing and quick else 1


def make_project(folder: Path, images: int) -> None:
    """Photos with sidecars, the tiny model and run.toml."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    hour_ago = time.time() - 3600  # what was just written makes the scan wait

    def write(number: int) -> None:
        random = np.random.default_rng(number)
        pixels = random.integers(0, 256, (6, 8, 3), np.uint8)
        path = photos / f"{number:05}.jpg"
        cv2.imwrite(str(path), cv2.resize(pixels, SIZE, interpolation=cv2.INTER_CUBIC))
        path.with_suffix(".txt").write_text(f"a small photo, number {number}")
        for written in (path, path.with_suffix(".txt")):
            os.utime(written, (hour_ago, hour_ago))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(images)))
    # In a process of its own: a child's peak memory counts from that of the process it came from.
    build = [sys.executable, "-m", "deployments.demo.build_model", str(folder / "model")]
    subprocess.run(build, check=True, capture_output=True)
    (folder / "run.toml").write_text(RUN_TOML)


def prepare(folder: Path, env: dict[str, str]) -> tuple[dict[str, Any], Timing, float]:
    """Run the command: its JSON, what it took, and its peak memory in MB."""
    started = time.perf_counter()
    with (folder / "stderr.txt").open("ab") as said:
        process = subprocess.Popen(
            [TILEWRIGHT, "prepare", folder / "run.toml", "--json"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"prepare failed: {(folder / 'stderr.txt').read_text()[-2000:]}")
    timing = Timing(wall, usage.ru_utime + usage.ru_stime, 0.0)
    return json.loads(answer), timing, usage.ru_maxrss / 1024


def computed(result: dict[str, Any]) -> int:
    """How many items a preparation computed."""
    return sum(stage["computed"] for stage in result["stages"].values())


def show(what: str, result: dict[str, Any], timing: Timing, peak: float, images: int) -> None:
    """Print one run."""
    print(
        f"{what:<10}{images} images: {timing.wall:7.2f} s wall {timing.cpu:7.2f} s CPU, "
        f"of it {result['seconds']:.2f} s wall in the flow, {computed(result)} items computed, "
        f"peak {peak:.0f} MB; {load()}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
