"""The least loop that trains the same as ours: what one would write with diffusers and torch alone.

It has its batches on the device before the clock starts, noise and timesteps too, and looks at one
number per step, the loss, as ours does. No schedule, no seeds, no checks, nothing to resume.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from diffusers import DDPMScheduler, FluxPipeline
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_

from tasks.train.batch import Batch
from tasks.train.state import Training

SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
Pair = tuple[torch.Tensor, torch.Tensor]


def bare_step(training: Training) -> Callable[[Batch], None]:
    """A function that trains one batch with the weights and the optimizer of a training."""
    device, dtype = training.device.type, training.precision.dtype
    denoiser, parameters, optimizer = training.denoiser, training.parameters, training.optimizer
    predict = bare_prediction(training.family.name, training.latent_facts)

    def step(batch: Batch) -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            prediction, target = predict(denoiser, batch)
        loss = mse_loss(prediction.float(), target)
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def ready(training: Training, batch: Batch) -> Batch:
    """A batch as the bare loop takes it: on the device, texts in the dtype of the forward pass."""
    moved, dtype = batch.to(training.device), training.precision.dtype
    texts = {
        encoder: {name: value.to(dtype) for name, value in fields.items()}
        for encoder, fields in moved.texts.items()
    }
    return replace(moved, texts=texts)


def bare_prediction(family: str, scaling: Mapping[str, Any]) -> Callable[[Any, Batch], Pair]:
    """A function of (denoiser, batch) to (prediction, target); `scaling` is that of the VAE."""
    factor, shift = scaling["scaling_factor"], scaling.get("shift_factor", 0.0)
    scheduler = DDPMScheduler(**SCHEDULER)

    def sd15(unet: Any, batch: Batch) -> Pair:
        noisy = scheduler.add_noise(batch.latents * factor, batch.noise, batch.timesteps)
        hidden = batch.texts["text_encoder_1"]["hidden"]
        return unet(noisy, batch.timesteps, encoder_hidden_states=hidden).sample, batch.noise

    def sdxl(unet: Any, batch: Batch) -> Pair:
        first, second = batch.texts["text_encoder_1"], batch.texts["text_encoder_2"]
        noisy = scheduler.add_noise(batch.latents * factor, batch.noise, batch.timesteps)
        prediction = unet(
            noisy,
            batch.timesteps,
            encoder_hidden_states=torch.cat([first["hidden"], second["hidden"]], -1),
            added_cond_kwargs={"text_embeds": second["pooled"], "time_ids": batch.sizes},
        ).sample
        return prediction, batch.noise

    def flux(transformer: Any, batch: Batch) -> Pair:
        size, channels, height, width = batch.latents.shape
        hidden = batch.texts["text_encoder_2"]["hidden"]
        latents, device = (batch.latents - shift) * factor, batch.latents.device
        share = batch.timesteps / 1000
        sigma = share.view(-1, 1, 1, 1)
        noisy = (1 - sigma) * latents + sigma * batch.noise
        places = FluxPipeline._prepare_latent_image_ids(
            size, height // 2, width // 2, device, torch.float32
        )
        prediction = transformer(
            hidden_states=FluxPipeline._pack_latents(noisy, size, channels, height, width),
            timestep=share,
            guidance=torch.ones(size, device=device),
            pooled_projections=batch.texts["text_encoder_1"]["pooled"],
            encoder_hidden_states=hidden,
            txt_ids=torch.zeros(hidden.shape[1], 3, device=device),
            img_ids=places,
        ).sample
        unpacked = FluxPipeline._unpack_latents(prediction, 8 * height, 8 * width, 8)
        return unpacked, batch.noise - latents

    return {"sd15": sd15, "sdxl": sdxl, "flux_dev": flux}[family]
