"""Peak memory while tiling: scan, prompts and crops of large sources in a process of their own.

    python -m benchmarks.tiling_memory [--photos FOLDER] [--threads 2] [--very-large]

Bound: threads x 3 x the largest decoded source + 300 MiB, of which the interpreter with its
libraries takes 150 before and 250 while tiling. The cases are a folder of photos at scale 2 (see
`benchmarks.tiler`), six sources of 100 megapixels as JPEG, PNG and TIFF at scales 2 and 4, and with
--very-large three of 300 megapixels, which must also stay within 2 GiB. Training resolution is
1024, so scale 2 does not enlarge the photos; a scale that does takes more, as the enlarged picture
is held too. Large sources are made of a photo that is laid side by side. Exit code 1: a bound was
missed.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import verdict
from benchmarks.photos import VARIABLE

MIB = 2**20
BASE, PER_THREAD, VERY_LARGE = 300 * MIB, 3, 2048 * MIB
SUFFIXES = ("jpg", "png", "tif")
RUN_TOML = """
[store]
url = "store"
[model]
family = "sd15"
base = "model"
[data]
name = "bench"
resolution = "1024"
threads = {threads}
[[concepts]]
name = "photos"
path = "{photos}"
prompt_source = "filename"
[concepts.image.detail_crops]
enabled = true
scales = {scales}
[train.method]
kind = "lora"
"""


def main() -> int:
    """Measure every case and tell whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", help=f"folder of JPEGs (or {VARIABLE})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--very-large", action="store_true")
    parser.add_argument("--run", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        return run(*given.run, given.photos)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child("model", folder)
        photos = child("photos", folder, given.photos)
        held = [measure("photos", folder, given.threads, photos, [2])]
        for megapixels in ("100", "300") if given.very_large else ("100",):
            large = folder / megapixels
            child(megapixels, large, given.photos)
            held.append(measure(f"{megapixels} MP", folder, given.threads, str(large), [2, 4]))
    return 0 if all(held) else 1


def measure(name: str, folder: Path, threads: int, photos: str, scales: list[int]) -> bool:
    """Tile a folder in a child and tell whether its peak memory stayed within the bound."""
    settings = RUN_TOML.format(threads=threads, photos=photos, scales=scales)
    (folder / "run.toml").write_text(settings)
    found = json.loads(child("tile", folder))
    bound = threads * PER_THREAD * found["largest"] + BASE
    print(
        f"{name}: {found['sources']} sources, the largest {found['largest'] / MIB:.0f} MiB "
        f"decoded, {found['views']} views, {threads} threads: peak {found['peak'] / MIB:.0f} MiB, "
        f"of it {found['start'] / MIB:.0f} MiB before the first source"
    )
    good = verdict(f"{name}, bound {bound / MIB:.0f} MiB", good=found["peak"] < bound)
    if found["largest"] < 800 * MIB:
        return good
    limit = f"{name}, bound {VERY_LARGE / MIB:.0f} MiB"
    return verdict(limit, good=found["peak"] < VERY_LARGE) and good


def child(what: str, folder: Path, photos: str | None = None) -> str:
    """Do something in a process of its own; what it prints."""
    command = [sys.executable, "-m", "benchmarks.tiling_memory", "--run", what, str(folder)]
    command += ["--photos", photos] if photos else []
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def run(what: str, folder: str, photos: str | None) -> int:
    """The child: make a model or sources, or tile."""
    if what == "tile":
        print(json.dumps(tile(Path(folder))))
        return 0
    # Nothing of this is in memory while tiling.
    from benchmarks.tiler import large_photos
    from deployments.demo.build_model import build_demo_model

    if what == "model":
        build_demo_model(Path(folder) / "model")
    elif what == "photos":
        print(large_photos(photos)[0].parent.resolve())
    else:
        make_sources(large_photos(photos)[0], Path(folder), int(what))
    return 0


def make_sources(photo: Path, folder: Path, megapixels: int) -> None:
    """Sources of so many megapixels, 4 : 3, of each kind: two, or one of 300 megapixels."""
    import pyvips

    folder.mkdir()
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(megapixels * 1e6 / width)
    part = pyvips.Image.new_from_file(str(photo)).copy_memory()
    across, down = width // part.width + 2, height // part.height + 2
    whole = part.replicate(across, down)
    for number in range(1 if megapixels > 100 else 2):
        large = whole.crop(number, number, width, height)
        for suffix in SUFFIXES:
            large.write_to_file(str(folder / f"{number}.{suffix}"))


def tile(folder: Path) -> dict[str, int]:
    """Scan, prompts and crops of a project; what they took and found."""
    from storage import tables
    from tasks.config.loading import load_config
    from tasks.pipeline.run import StagePlan, plan_stage, seal_stage, work_partition
    from tasks.stage import Context, StageRef

    config = load_config(folder / "run.toml", ['store.url="memory://tiling"'])
    refs: dict[str, StageRef] = {}
    start = 0
    for stage, after in (("scan", None), ("prompts", "scan"), ("crops", "prompts")):
        start = peak()
        planned = plan_stage(config, stage, {after: refs[after]} if after else {})
        assert isinstance(planned, StagePlan)
        for number in range(planned.num_partitions):
            work_partition(config, planned, number)
        refs[stage] = seal_stage(config, planned)
    scanned = tables.get_table(Context(config).store, refs["scan"].manifest).to_pylist()
    return {
        "sources": len(scanned),
        "largest": max(3 * row["width"] * row["height"] for row in scanned),
        "views": refs["crops"].num_items,
        "start": start,
        "peak": peak(),
    }


def peak() -> int:
    """Peak resident memory of this process; what its parent had does not count, as in getrusage."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
