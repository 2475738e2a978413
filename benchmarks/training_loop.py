"""Our training loop against a bare one: same model, same data in memory, one process.

The promise is at least 95 % of the bare loop's steps per second. Short rounds alternate, and the
median of their ratios counts, so that a busy machine slows both alike.

Run from the repository root: OMP_NUM_THREADS=1 python -m benchmarks.training_loop
"""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from tasks.config.cadences import BackupCadence
from tasks.config.methods import FullMethod
from tasks.config.optimizers import Schedule
from tasks.config.training import TrainConfig
from tasks.families import get_family
from tasks.train.batch import Batch, StepBatches
from tasks.train.forward import Forward
from tasks.train.loop import silent_hooks, train
from tasks.train.noise import normal
from tasks.train.objectives import OBJECTIVES
from tasks.train.optimizers import build_optimizer
from tasks.train.parts import TrainedPart, parameter_groups
from tasks.train.precision import choose_precision
from tasks.train.state import Progress, Training

FLOOR = 0.95
ROUNDS = 31
STEPS = 1
BATCH, LATENT = 4, 32
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build_unet() -> Any:
    """A UNet of SD 1.5's architecture, small but no toy: 32 and 64 channels, text width 64."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=LATENT,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
    ).train()


def make_batches(count: int = 4) -> list[Batch]:
    """Random batches, made before the clock starts."""
    torch.manual_seed(1)
    noise = normal((4, LATENT, LATENT), 0, 0, range(BATCH))
    return [
        Batch(
            rows=tuple(range(BATCH)),
            epoch=0,
            position=BATCH * number,
            latents=torch.randn(BATCH, 4, LATENT, LATENT),
            noise=noise,
            input_noise=noise,
            timesteps=torch.randint(0, 1000, (BATCH,)),
            prompts=("",) * BATCH,
            texts={"text_encoder_1": {"hidden": torch.randn(BATCH, 77, 64)}},
            sizes=torch.zeros(BATCH, 6),
            weights=torch.ones(BATCH),
            is_prior=(False,) * BATCH,
        )
        for number in range(count)
    ]


def build_training(unet: Any) -> Training:
    """Our loop's state around a UNet, without a store or a model on disk."""
    config = TrainConfig(
        method=FullMethod(),
        train_dtype="float32",
        batch_size=BATCH,
        schedule=Schedule(kind="cosine"),
        backup=BackupCadence(every=0),
    )
    family = get_family("sd15")
    device = torch.device("cpu")
    precision = choose_precision("float32", device)
    part = TrainedPart(
        name="denoiser",
        parameters=list(unet.parameters()),
        learning_rate=config.learning_rate,
        stop_after=None,
        state=unet.state_dict,
        restore=unet.load_state_dict,
    )
    forward = Forward(family, precision, unet, {}, {})
    return Training(
        config=config,
        family=family,
        forward=forward,
        model=forward,
        parts=[part],
        adapted=[],
        objective=OBJECTIVES["ddpm"](SCHEDULER, config.noise),
        latent_facts={"scaling_factor": 0.18215},
        precision=precision,
        device=device,
        optimizer=build_optimizer(parameter_groups([part]), config.optimizer),
        scaler=precision.grad_scaler(),
        average=None,
        total_steps=10**9,
        progress=Progress(),
    )


def our_steps(training: Training, steps: Iterator[StepBatches]) -> float:
    """Seconds for STEPS steps of our loop."""
    start = time.perf_counter()
    train(training, steps, silent_hooks(lambda: False), training.progress.step + STEPS)
    return time.perf_counter() - start


def bare_steps(unet: Any, optimizer: torch.optim.Optimizer, batches: Iterator[Batch]) -> float:
    """Seconds for STEPS steps of the least loop that trains the same thing."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(**SCHEDULER)
    start = time.perf_counter()
    for batch in itertools.islice(batches, STEPS):
        latents = batch.latents * 0.18215
        noisy = scheduler.add_noise(latents, batch.noise, batch.timesteps)
        hidden = batch.texts["text_encoder_1"]["hidden"]
        prediction = unet(noisy, batch.timesteps, encoder_hidden_states=hidden).sample
        loss = torch.nn.functional.mse_loss(prediction, batch.noise)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
    return time.perf_counter() - start


def measure() -> float:
    """The median of (bare seconds / our seconds) over rounds in turn."""
    batches = make_batches()
    training, bare = build_training(build_unet()), build_unet()
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-4)
    ours = (
        StepBatches(epoch=0, step_in_epoch=0, ends_epoch=False, batches=[batch])
        for batch in itertools.cycle(batches)
    )
    theirs = itertools.cycle(batches)
    ratios = []
    for _ in range(ROUNDS + 1):
        ours_seconds = our_steps(training, ours)
        ratios.append(bare_steps(bare, optimizer, theirs) / ours_seconds)
    # The first round warms caches and allocators.
    return statistics.median(ratios[1:])


def main() -> int:
    """Prints the ratio; exit status 1 when it is below the promise."""
    ratio = measure()
    print(f"our training loop runs at {ratio:.3f} of the bare loop (at least {FLOOR})")
    return int(ratio < FLOOR)


if __name__ == "__main__":
    sys.exit(main())
