"""Encoding latents as the product does against a loop that only calls the VAE."""

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from benchmarks.measure import in_turns
from benchmarks.training_turns import peak_gib, reset_peak
from tasks.families import get_family
from tasks.families.sources import ModelSource
from tasks.families.vae import load_vae_encoder
from tasks.imaging.decode import Pixels

SDXL_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}
TINY_VAE = {**SDXL_VAE, "block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4}
DTYPE = torch.bfloat16
BATCHES, ROUNDS = 4, 7
"""Batches per turn, and turns."""


def measure_latents(device: torch.device, edge: int, batch_size: int, config: Any) -> float:
    """Images per second of ours over those of the faster bare loop; prints both.

    Args:
        device: where the VAE runs.
        edge: of the square images in pixels.
        batch_size: of both.
        config: of the VAE, whose weights are random.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = write_vae(Path(folder), config)
        encode = load_vae_encoder(source, get_family("sdxl"), DTYPE, device)
        plain = AutoencoderKL.from_pretrained(Path(folder) / "vae", dtype=DTYPE).eval().to(device)
        last = AutoencoderKL.from_pretrained(Path(folder) / "vae", dtype=DTYPE).eval().to(device)
    random = np.random.default_rng(0)
    images = [
        [random.integers(0, 256, (edge, edge, 3), np.uint8) for _ in range(batch_size)]
        for _ in range(BATCHES)
    ]
    loops = {
        "ours": lambda: [encode(batch) for batch in images],
        "bare": bare_loop(plain, images, device),
        "bare, channels last": bare_loop(
            last.to(memory_format=torch.channels_last), images, device
        ),
    }
    return report(loops, BATCHES * batch_size, device)


def write_vae(folder: Path, config: Any) -> ModelSource:
    """A model that is nothing but a VAE with random weights."""
    torch.manual_seed(0)
    AutoencoderKL(**config).save_pretrained(folder / "vae")
    index = {"_class_name": "StableDiffusionXLPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return ModelSource("diffusers", "sdxl", folder)


def bare_loop(
    vae: Any, images: Sequence[Sequence[Pixels]], device: torch.device
) -> Callable[[], None]:
    """A loop over batches that are tensors in memory, pinned where there is a GPU."""
    batches = [torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2) for batch in images]
    if device.type == "cuda":
        batches = [batch.pin_memory() for batch in batches]

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                pixels = batch.to(device, non_blocking=True).to(DTYPE) / 127.5 - 1
                vae.encode(pixels).latent_dist.mean.cpu()

    return run


def report(loops: dict[str, Callable[[], object]], num_images: int, device: torch.device) -> float:
    """Runs the loops in turns, prints each and gives the ratio to the faster bare one."""
    for work in loops.values():
        work()
    peaks = {}
    for name, work in loops.items():
        reset_peak(device)
        work()
        peaks[name] = peak_gib(device)
    runs = in_turns(loops, ROUNDS)
    rates = {
        name: num_images / statistics.median(run.wall for run in seen)
        for name, seen in runs.items()
    }
    for name, rate in rates.items():
        print(
            f"latents, {name}: {rate:.2f} images/s, peak memory {peaks[name]:.2f} GiB", flush=True
        )
    return rates["ours"] / max(rate for name, rate in rates.items() if name != "ours")
