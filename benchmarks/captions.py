"""Captioning against a server with a fixed answer time, held against a bare loop of requests.

    python -m benchmarks.captions [--photos 96] [--rounds 3] [--seconds 0.05] [--parallel 8]

The server (tests/caption_server.py, a process of its own) answers each question after so many
seconds, so many at a time, and does nothing else. The stage, with default settings, does what it
does in a run: it reads, verifies and decodes photos, cuts tiles of 512 pixels, sends them as JPEG,
cleans the answers and commits them with their provenance. The bare loop is asyncio with aiohttp, as
many requests at a time as the server has slots, with the same pictures made beforehand and the
answers thrown away. For the record the stage runs with `caption_parallel` set to the server's slots
too: then no request waits at the server for a slot that becomes free.

Best of some rounds in turns. Exit code 1: the bound was missed.
"""

import argparse
import asyncio
import base64
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.measure import best, in_turns, load, show, verdict
from storage import tables
from tasks.captions.captioning import target_of
from tasks.captions.chosen import asked
from tasks.captions.pictures import feed
from tasks.config.models import Config
from tasks.pipeline.run import StagePlan, plan_stage, seal_stage, work_partition
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageRef
from tests.projects import Project, make_project
from tests.tiny import build_tiny

RATIO = 0.9
SIZE = (1500, 1100)
CROPS = "concepts.0.image.detail_crops."


def main() -> int:
    """Measure, print every run, and tell whether the bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--parallel", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, server(given.seconds, given.parallel) as url:
        project = made_project(Path(scratch), given.photos)
        config = project.config(*settings(url))
        exact = project.config(*settings(url), f"{CROPS}caption_parallel={given.parallel}")
        refs = prepared(config)
        pictures = all_pictures(config, refs)
        print(f"{len(pictures)} tiles, {sum(map(len, pictures)) >> 20} MiB of JPEG; {load()}")
        seen = in_turns(
            {
                "bare loop of requests": lambda: asyncio.run(
                    bare(url, pictures, config, given.parallel)
                ),
                "stage": lambda: captioned(config, refs),
                "stage, as many as slots": lambda: captioned(exact, refs),
            },
            given.rounds,
            told=lambda name, run: show(name, run, len(pictures)),
        )
    bare_wall = best(seen["bare loop of requests"]).wall
    ratio = bare_wall / best(seen["stage"]).wall
    as_slots = bare_wall / best(seen["stage, as many as slots"]).wall
    ideal = len(pictures) * given.seconds / given.parallel
    print(f"stage: {ratio:.3f} of the bare loop, {as_slots:.3f} with as many requests as slots")
    print(f"the server alone takes {ideal:.2f} s; {load()}")
    return 0 if verdict(f"captions, bound {RATIO}", good=ratio >= RATIO) else 1


def settings(url: str) -> list[str]:
    """Every tile is captioned."""
    crops = {"enable_captioning": "true", "caption_probability": "1.0", "caption_model": "tiny"}
    crops |= {"caption_endpoint": f'"{url}"'}
    return ['data.resolution="512"', *(f"{CROPS}{name}={value}" for name, value in crops.items())]


@contextmanager
def server(seconds: float, parallel: int) -> Iterator[str]:
    """The server as a process; its address."""
    options = ("--seconds", str(seconds), "--parallel", str(parallel), "--light")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.caption_server", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def made_project(folder: Path, num_photos: int) -> Project:
    """Photos of which each gives nine tiles or so."""
    project = make_project(folder / "project", build_tiny("sd15", folder / "model"), num_photos=0)
    for number in range(num_photos):
        project.add_photo(f"photo{number}", number, f"photo {number}", SIZE)
    return project


def prepared(config: Config) -> dict[str, StageRef]:
    """The stages before captions."""
    refs: dict[str, StageRef] = {}
    for stage in STAGES:
        if stage.name == "captions":
            break
        planned = plan_stage(config, stage.name, {up: refs[up] for up in stage.after})
        if isinstance(planned, StagePlan):
            done = [work_partition(config, planned, n) for n in range(planned.num_partitions)]
            planned = seal_stage(config, planned, done)
        refs[stage.name] = planned
    return refs


def planned_captions(config: Config, refs: dict[str, StageRef]) -> StagePlan:
    """The plan of the captions stage, of which nothing has been done."""
    upstream = {name: refs[name] for name in ("prompts", "crops")}
    planned = plan_stage(config, "captions", upstream)
    assert isinstance(planned, StagePlan)
    return planned


def captioned(config: Config, refs: dict[str, StageRef]) -> None:
    """The captions stage from its plan on; what it made is forgotten before the next round."""
    planned = planned_captions(config, refs)
    done = [work_partition(config, planned, n) for n in range(planned.num_partitions)]
    ref = seal_stage(config, planned, done)
    assert ref.counts.computed == ref.counts.wanted, ref.counts
    shutil.rmtree(Path(config.store.url) / "stages" / "captions")


def all_pictures(config: Config, refs: dict[str, StageRef]) -> list[bytes]:
    """The pictures that the stage sends."""
    planned = planned_captions(config, refs)
    rows = tables.get_table(Context(config).store, planned.todo).to_pylist()
    crops = config.concepts[0].image.detail_crops
    targets = [target_of(row) for row in rows]
    wanted = [(target, asked(target, crops, "").sent_px) for target in targets]
    pictures: list[bytes] = []

    def send(_: object, jpeg: bytes) -> bool:
        pictures.append(jpeg)
        return True

    feed(wanted, config.data, send, lambda _target, why: sys.exit(why))
    return pictures


async def bare(url: str, pictures: list[bytes], config: Config, parallel: int) -> None:
    """The same questions with nothing around them."""
    crops = config.concepts[0].image.detail_crops
    waiting = iter(pictures)
    async with aiohttp.ClientSession() as session:

        async def lane() -> None:
            for jpeg in waiting:
                body = {
                    "model": "tiny",
                    "system": crops.caption_system_prompt,
                    "prompt": crops.caption_user_prompt,
                    "images": [base64.b64encode(jpeg).decode()],
                    "options": {"temperature": 0, "num_predict": 256},
                }
                async with session.post(f"{url}/api/generate", json=body) as answer:
                    async for _ in answer.content:
                        pass

        await asyncio.gather(*(lane() for _ in range(parallel)))


if __name__ == "__main__":
    sys.exit(main())
