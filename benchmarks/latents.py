"""Latents: the stage from JPEG files to a committed shard, against a loop that only runs the VAE.

    python -m benchmarks.latents [real|tiny|both] [--photos FOLDER] [--count N] [--rounds N]

`real`: the architecture of the SD VAE (83.7 M parameters, random weights) on 20 photos at 256 px.
`tiny`: the same with 8 to 16 channels on 300 photos of 2 to 6 megapixels at 512 px, where decoding
counts. Both in float32 with batches of one, which is the fastest on a CPU.

The bare loop has its batches decoded and as float tensors in memory, of exactly the pixels that
the stage encodes; it runs plainly (all cores for one image) and as the stage does (one core per
image, channels last). The first is how other trainers call their VAE; the second shows what
reading, decoding and committing cost beside the VAE itself. The bound holds against both. The stage
reads, decodes, cuts, encodes and commits; views were measured before. Its loading of the VAE is
shown and not counted, as a partition of a real run has 512 items. Bare and stage run in turns.
Exit code 1: a bound was missed.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from benchmarks.measure import Timing, best, in_turns, load, show, timed, verdict
from benchmarks.photos import photo_set
from deployments.demo.build_model import build_demo_model
from storage import tables
from tasks.config.loading import load_config
from tasks.config.models import Config
from tasks.encode import latents
from tasks.encode.workers import one_core_each
from tasks.imaging.jobs import sample_jobs
from tasks.pipeline.run import StagePlan, plan_stage, seal_stage, work_partition
from tasks.stage import Context, StageRef

RUN_TOML = """
[store]
url = "store"
[model]
family = "sd15"
base = "model"
[data]
name = "bench"
resolution = "{resolution}"
[[concepts]]
name = "photos"
path = "photos"
prompt_source = "filename"
[train.method]
kind = "lora"
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One VAE with its photos and its bound."""

    resolution: int
    photos: int
    rounds: int
    bound: float


PLAIN = "bare, all cores per image"
CASES = {"real": Case(256, 20, 2, 0.97), "tiny": Case(512, 300, 3, 0.75)}


def main() -> int:
    """Measure, print every run, and tell whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("case", nargs="?", choices=[*CASES, "both"], default="both")
    parser.add_argument("--photos", help="folder of large JPEGs (or TILEWRIGHT_BENCH_PHOTOS)")
    parser.add_argument("--count", type=int, help="fewer photos than the bound is for")
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    photos = photo_set(CASES["tiny"].photos, given.photos)
    names = [*CASES] if given.case == "both" else [given.case]
    cases = {name: with_options(CASES[name], given.count, given.rounds) for name in names}
    held = [measure(name, case, photos) for name, case in cases.items()]
    return 0 if all(held) else 1


def with_options(case: Case, count: int | None, rounds: int | None) -> Case:
    """A case with the sizes of the command line."""
    return replace(case, photos=count or case.photos, rounds=rounds or case.rounds)


def measure(name: str, case: Case, photos: list[Path]) -> bool:
    """Measure one VAE; tells whether its bound holds."""
    chosen = photos[:: len(photos) // case.photos][: case.photos]
    with tempfile.TemporaryDirectory() as folder:
        config, crops = prepared(Path(folder), name, case, chosen)
        loading: list[Timing] = []
        loops = bare_loops(config, in_memory(config, crops)) | {
            "stage": lambda: run_stage(config, crops)
        }
        print(f"{name} VAE, {case.photos} photos, {case.resolution} px; {load()}", flush=True)
        with loading_timed(loading):
            seen = in_turns(loops, case.rounds, told=lambda n, run: show(n, run, case.photos))
    return compare(name, case, seen, loading)


def compare(name: str, case: Case, seen: dict[str, list[Timing]], loading: list[Timing]) -> bool:
    """Print the ratio of the best runs; tells whether the bound holds."""
    stage = best(
        [
            replace(run, wall=run.wall - loaded.wall, cpu=run.cpu - loaded.cpu)
            for run, loaded in zip(seen["stage"], loading, strict=True)
        ]
    )
    show("stage without VAE load", stage, case.photos)
    ratios = {name: best(runs).wall / stage.wall for name, runs in seen.items() if name != "stage"}
    for loop, ratio in ratios.items():
        cpu = min(run.cpu for run in seen[loop]) / stage.cpu
        print(f"{name}: {ratio:.3f} of '{loop}' ({cpu:.3f} by CPU seconds); {load()}")
    with_loading = best(seen[PLAIN]).wall / best(seen["stage"]).wall
    print(f"{name}: {with_loading:.3f} of '{PLAIN}' with the {best(loading).wall:.2f} s of loading")
    return verdict(f"{name}, bound {case.bound}", good=min(ratios.values()) >= case.bound)


def prepared(folder: Path, name: str, case: Case, photos: list[Path]) -> tuple[Config, StageRef]:
    """A project of which everything but text and latents is done; gives the crops."""
    (folder / "photos").mkdir()
    for path in photos:
        shutil.copy(path, folder / "photos")
    build_demo_model(folder / "model")
    if name == "real":
        write_real_vae(folder / "model" / "vae")
    (folder / "run.toml").write_text(RUN_TOML.format(resolution=case.resolution))
    # The latents are made anew by every run.
    config = load_config(folder / "run.toml", ['refresh=["latents"]'])
    refs: dict[str, StageRef] = {}
    for stage, after in (("scan", None), ("prompts", "scan"), ("crops", "prompts")):
        planned = plan_stage(config, stage, {after: refs[after]} if after else {})
        assert isinstance(planned, StagePlan)
        for number in range(planned.num_partitions):
            work_partition(config, planned, number)
        refs[stage] = seal_stage(config, planned)
    return config, refs["crops"]


def write_real_vae(folder: Path) -> None:
    """The VAE of Stable Diffusion 1.5 with random weights."""
    shutil.rmtree(folder)
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    ).save_pretrained(folder)


def run_stage(config: Config, crops: StageRef) -> None:
    """What the product does: plan, then the work of every partition."""
    planned = plan_stage(config, "latents", {"crops": crops})
    assert isinstance(planned, StagePlan)
    for number in range(planned.num_partitions):
        work_partition(config, planned, number)


def in_memory(config: Config, crops: StageRef) -> list[torch.Tensor]:
    """The pixels of every sample as the VAE takes them: (1, 3, H, W) float32, channels last."""
    rows = tables.get_table(Context(config).store, crops.manifest)
    return [
        torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).float() / 127.5 - 1.0
        for cut in latents.cut_sources(sample_jobs(rows), config.data, 0)
        for _, _, pixels in cut()
    ]


def bare_loops(config: Config, batches: list[torch.Tensor]) -> dict[str, Callable[[], None]]:
    """Loops that run the VAE and nothing else."""
    folder = Path(config.model.base) / "vae"
    vae = AutoencoderKL.from_pretrained(folder).eval()
    split = AutoencoderKL.from_pretrained(folder).eval().to(memory_format=torch.channels_last)
    contiguous = [batch.contiguous() for batch in batches]
    return {
        PLAIN: lambda: run_plain(vae, contiguous),
        "bare, one core per image": lambda: run_split(split, batches),
    }


def run_plain(vae: Any, batches: list[torch.Tensor]) -> None:
    """One image after the other on all cores."""
    with torch.no_grad():
        for batch in batches:
            _ = vae.encode(batch).latent_dist.mean


def run_split(vae: Any, batches: list[torch.Tensor]) -> None:
    """As many images at once as there are cores."""

    def encode(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            mean: torch.Tensor = vae.encode(batch).latent_dist.mean
            return mean

    cores = cpu_count() or 1
    with one_core_each(cores), ThreadPoolExecutor(cores) as pool:
        list(pool.map(encode, batches))


@contextmanager
def loading_timed(loading: list[Timing]) -> Iterator[None]:
    """While the context lasts, `loading` gets what every loading of the VAE by the stage takes."""
    load_encoder = latents.vae_encoder

    def load_and_time(context: Context, device: torch.device) -> Any:
        made: list[Any] = []
        loading.append(timed(lambda: made.append(load_encoder(context, device))))
        return made[0]

    latents.vae_encoder = load_and_time
    try:
        yield
    finally:
        latents.vae_encoder = load_encoder


if __name__ == "__main__":
    sys.exit(main())
