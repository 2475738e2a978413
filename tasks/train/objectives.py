"""Training objectives: what noise does to latents and what the denoiser must predict from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    Mix = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Latents and noise are (B, C, h, w), t is (B,)."""

    num_timesteps: int
    corrupt: "Mix"
    """(latents, noise, t) to the noisy latents."""
    target: "Mix"
    """(latents, noise, t) to what the denoiser must predict."""


def ddpm(scheduler_config: Mapping[str, Any]) -> Objective:
    """Denoising diffusion; the checkpoint's own scheduler config says epsilon or v_prediction.

    The config belongs to whatever sampler the checkpoint ships with, so the betas are read into a
    DDPMScheduler, which all of them share.
    """
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(dict(scheduler_config))
    targets: dict[str, Mix] = {
        "epsilon": lambda latents, noise, t: noise,
        "v_prediction": scheduler.get_velocity,
    }
    prediction = scheduler.config.prediction_type
    if prediction not in targets:
        raise ValueError(
            f"The model's scheduler config has prediction_type {prediction!r}, which cannot be "
            f"trained. Allowed: {', '.join(targets)}."
        )
    return Objective(
        num_timesteps=scheduler.config.num_train_timesteps,
        corrupt=scheduler.add_noise,
        target=targets[prediction],
    )


OBJECTIVES: dict[str, Callable[[Mapping[str, Any]], Objective]] = {"ddpm": ddpm}
