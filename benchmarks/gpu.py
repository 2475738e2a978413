"""Everything that takes a GPU, in under 8 minutes: training SDXL and FLUX, and encoding latents.

    python -m benchmarks.gpu [--tiny] [--only WORD] [--minutes N]

Models have the real sizes (2.6 and 12 billion weights) and random weights, made on the GPU from
their configs, so that nothing is downloaded. bfloat16, gradient checkpointing, 1024 pixels. Our
loop reads its batches from a store; the bare loop (`bare_training`) has them on the GPU. A model
that does not fit has fewer blocks, and the output says so. `--tiny` runs the same code on the CPU
with tiny models, to see that it works: its figures mean nothing, so no bound is judged.
Exit code 1: a bound was missed; 2: there is no GPU.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch

from benchmarks.bare_training import bare_step, ready
from benchmarks.gpu_cases import CASES, TINY_CASES
from benchmarks.gpu_latents import SDXL_VAE, TINY_VAE, measure_latents
from benchmarks.measure import verdict
from benchmarks.training_data import make_source
from benchmarks.training_models import Case, build_training, draws, num_parameters, with_depth
from benchmarks.training_turns import Limits, compare, finish, matmul_flops, our_turn, show
from storage.store import open_store
from tasks.train.batches import step_batches

Bounds = dict[str, bool]
"""What is bounded, in words, to whether it holds."""
FLOOR = 0.97
LATENTS_FLOOR = 0.95
LONGEST_WAIT = 0.01
MINUTES = 7.0
LIMITS = Limits(rounds=30, seconds=20.0, steps=3)
TINY_LIMITS = Limits(rounds=2, seconds=2.0, at_least=1, steps=2, warm_up=1)
BYTES_PER_TRAINED = 18
"""Weight, gradient and two averages in float32, and the copy in bfloat16 that autocast keeps."""
BYTES_PER_FROZEN = 2
ROOM = 0.75
"""Share of the free memory that weights may take; the rest is for activations."""


def main() -> int:
    """Measures, prints and tells whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--only", default="", help="only what has this word in its name")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin nothing later")
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        print("torch finds no GPU; --tiny runs the same code on the CPU", file=sys.stderr)
        return 2
    device = torch.device("cpu") if given.tiny else torch.device("cuda", 0)
    describe(device)
    begun, good = time.monotonic(), True
    for name, work in everything(device, given.tiny).items():
        minutes = (time.monotonic() - begun) / 60
        if given.only in name and minutes < given.minutes:
            bounds = work()
            # Tiny models are all overhead: they say nothing about the bounds.
            held = [given.tiny or verdict(text, good=ok) for text, ok in bounds.items()]
            good &= all(held)
        elif given.only in name:
            print(f"{name}: left out, {minutes:.1f} minutes are over")
    print(f"all took {(time.monotonic() - begun) / 60:.1f} minutes")
    return int(not good)


def describe(device: torch.device) -> None:
    """Prints the device and what it can do."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rate = matmul_flops(device, torch.bfloat16) / 1e12
    print(f"{name}, torch {torch.__version__}: {rate:.2f} TFLOP/s in a bfloat16 matrix product")


def everything(device: torch.device, tiny: bool) -> dict[str, Callable[[], Bounds]]:
    """By name, what measures something and gives its bounds."""
    limits = TINY_LIMITS if tiny else LIMITS
    vae = (64, 2, TINY_VAE) if tiny else (1024, 4, SDXL_VAE)

    def latents() -> Bounds:
        ratio = measure_latents(device, *vae)
        text = f"latents: {ratio:.3f} of the faster bare loop (bound {LATENTS_FLOOR})"
        return {text: ratio >= LATENTS_FLOOR}

    def training(case: Case) -> Callable[[], Bounds]:
        return lambda: measure_training(case, device, limits)

    cases = TINY_CASES if tiny else CASES
    return {"latents": latents, **{case.name: training(case) for case in cases}}


def measure_training(case: Case, device: torch.device, limits: Limits) -> Bounds:
    """Measures one training; gives no bounds where it cannot run."""
    lacks = missing(case)
    if lacks:
        print(f"{case.name}: left out, {lacks}")
        return {}
    try:
        return train_both(fitted(case, device), device, limits)
    except torch.OutOfMemoryError:
        print(f"{case.name}: left out, the GPU's memory is too small")
        return {}
    finally:
        gc.collect()
        torch.compiler.reset()
        torch.cuda.empty_cache()


def missing(case: Case) -> str | None:
    """What is not installed that a case needs."""
    if case.base != "train_dtype" and find_spec("torchao") is None:
        return "torchao is not installed"
    if case.compile and shutil.which("g++") is None:
        return "torch.compile needs g++"
    return None


def fitted(case: Case, device: torch.device) -> Case:
    """The case with as many blocks as the GPU's memory has room for; prints its size."""
    num_weights, num_trained = num_parameters(case)
    share = 1.0
    if device.type == "cuda":
        frozen = num_weights - num_trained if case.method.kind == "full" else num_weights
        needed = BYTES_PER_TRAINED * num_trained + BYTES_PER_FROZEN * frozen
        share = min(1.0, ROOM * torch.cuda.mem_get_info(device)[0] / needed)
    if share < 1.0 and case.architecture.depths:
        case = with_depth(case, share)
        num_weights, num_trained = num_parameters(case)
        print(f"{case.name}: only {share:.0%} of its blocks fit into this GPU")
    print(
        f"{case.name}: {num_weights / 1e9:.3f} billion weights, {num_trained / 1e9:.3f} billion "
        f"trained, batches of {case.batch_size}",
        flush=True,
    )
    return case


def train_both(case: Case, device: torch.device, limits: Limits) -> Bounds:
    """Measures a training that fits and gives its bounds."""
    begun = time.perf_counter()
    training = build_training(case, device)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "store"))
        shapes, family = case.architecture.shapes, case.architecture.family
        source = make_source(
            store, family, shapes, draws(case), batch_size=case.batch_size, device=device
        )
        with closing(step_batches(source, 0, 0)) as steps:
            held = list(islice(steps, 4))
            batches = [batch for step in held for batch in step.batches]
            found = compare(training, case, steps, batches, limits)
            show(case.name, found)
            if device.type == "cuda":
                bare, batch = bare_step(training), ready(training, batches[0])
                waits = [
                    num_waits(our_turn(training, steps, [], 1), device),
                    num_waits(lambda: bare(batch), device),
                ]
                print(f"    Python waits for the GPU {waits[0]} times per step, bare {waits[1]}")
    print(f"    took {time.perf_counter() - begun:.0f} s")
    wait = f"{case.name}, waiting for data: {100 * found.wait_share:.2f} % (bound 1 %)"
    return {
        f"{case.name}: {found.ratio:.3f} (bound {FLOOR})": found.ratio >= FLOOR,
        wait: found.wait_share < LONGEST_WAIT,
    }


def num_waits(step: Callable[[], object], device: torch.device) -> int:
    """How often a step makes Python wait for the GPU."""
    step()
    finish(device)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in seen)


if __name__ == "__main__":
    sys.exit(main())
