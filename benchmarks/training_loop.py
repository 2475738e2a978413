"""Our training loop against a bare one on the CPU: same weights, same optimizer, same batches.

    OMP_NUM_THREADS=1 python -m benchmarks.training_loop [--rounds N]

Stable Diffusion 1.5's architecture, scaled to fit, in float32: full fine-tune and LoRA, each with
its batches in memory and read from a store while it trains. The bare loop (`bare_training`) always
has them in memory. The bound on the ratio is for batches in memory, since threads that read take
CPU time which a GPU's training does not miss; waiting for data is bounded for the store.
Exit code 1: a bound was missed.
"""

import argparse
import sys
import tempfile
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import torch

from benchmarks.measure import load, verdict
from benchmarks.training_data import Shapes, make_source
from benchmarks.training_models import FULL, LORA, Architecture, Case, build_training, draws
from benchmarks.training_turns import Figures, Limits, compare, show
from storage.store import open_store
from tasks.train.batches import step_batches

FLOOR = 0.97
LONGEST_WAIT = 0.01
ROUNDS = 41
SECONDS = 60.0
CPU = torch.device("cpu")
TEXT_WIDTH = 96
SCALED = Architecture(
    family="sd15",
    model="UNet2DConditionModel",
    config={
        "sample_size": 32,
        "block_out_channels": (32, 64, 128, 128),
        "layers_per_block": 2,
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 8,
    },
    shapes=Shapes(latent=(4, 32, 32), texts={"text_encoder_1": {"hidden": (77, TEXT_WIDTH)}}),
    scaling={"scaling_factor": 0.18215},
)
CASES = {
    method.kind: Case(
        name=method.kind,
        architecture=SCALED,
        method=method,
        batch_size=2,
        dtype="float32",
        checkpointing=False,
    )
    for method in (FULL, LORA)
}


def main() -> int:
    """Measures, prints and tells whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    limits = Limits(rounds=parser.parse_args().rounds, seconds=SECONDS)
    print(load(), flush=True)
    good = True
    for name, case in CASES.items():
        memory, stored = measure(case, limits)
        show(f"{name}, batches in memory", memory)
        show(f"{name}, batches from a store", stored)
        wait = f"{name}, waiting for the store: {100 * stored.wait_share:.2f} % (bound 1 %)"
        good &= verdict(f"{name}: {memory.ratio:.3f} (bound {FLOOR})", good=memory.ratio >= FLOOR)
        good &= verdict(wait, good=stored.wait_share < LONGEST_WAIT)
    return int(not good)


def measure(case: Case, limits: Limits) -> tuple[Figures, Figures]:
    """(with batches in memory, with batches from a store)."""
    training = build_training(case, CPU)
    with tempfile.TemporaryDirectory() as folder:
        shapes, family = case.architecture.shapes, case.architecture.family
        store = open_store(str(Path(folder) / "store"))
        source = make_source(
            store, family, shapes, draws(case), batch_size=case.batch_size, device=CPU
        )
        with closing(step_batches(source, 0, 0)) as steps:
            held = list(islice(steps, 8))
            batches = [batch for step in held for batch in step.batches]
            memory = compare(training, case, cycle(held), batches, limits)
            stored = compare(training, case, steps, batches, limits)
    return memory, stored


if __name__ == "__main__":
    sys.exit(main())
