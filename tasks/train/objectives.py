"""Training objectives: what noise does to latents and what the denoiser must predict from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tasks.config.objectives import Noise

if TYPE_CHECKING:
    from torch import Tensor

    Mix = Callable[[Tensor, Tensor, Tensor], Tensor]

FLOW_TIMESTEPS = 1000
"""What flow models are told of pure noise; every family's `predict` is given that scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Latents and noise are (B, C, h, w), t is (B,)."""

    prediction: Literal["epsilon", "v_prediction", "flow"]
    """What the denoiser predicts."""
    num_timesteps: int
    integer_timesteps: bool
    """Whether t is int64; else it is float32."""
    timestep: Callable[[float], float]
    """The share of noise, 0 to 1, to the t of a sample."""
    corrupt: "Mix"
    """(latents, noise, t) to the noisy latents."""
    target: "Mix"
    """(latents, noise, t) to what the denoiser must predict."""
    snr: "Callable[[Tensor], Tensor]"
    """t to the variance of the latents over that of the noise, (B,) in float32."""
    sigma: "Callable[[Tensor], Tensor]"
    """t to the factor of the noise in the noisy latents, (B,) in float32."""
    sampler_changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings that a sampler of the trained model needs and the base model's has not."""


def ddpm(scheduler_config: Mapping[str, Any], noise: Noise) -> Objective:
    """Denoising diffusion; the checkpoint's own scheduler config says epsilon or v_prediction.

    The config belongs to whatever sampler the checkpoint ships with, so the betas are read into a
    DDPMScheduler, which all of them share. ValueError when the config's prediction cannot be
    trained, or not with a zero terminal SNR.
    """
    from diffusers import DDPMScheduler

    changed = {"rescale_betas_zero_snr": True} if noise.zero_terminal_snr else {}
    scheduler = DDPMScheduler.from_config({**scheduler_config, **changed})
    targets: dict[str, Mix] = {
        "epsilon": lambda latents, noise, t: noise,
        "v_prediction": scheduler.get_velocity,
    }
    prediction, count = scheduler.config.prediction_type, scheduler.config.num_train_timesteps
    if prediction not in targets:
        raise ValueError(
            f"The model's scheduler config has prediction_type {prediction!r}, which cannot be "
            f"trained. Allowed: {', '.join(targets)}."
        )
    if noise.zero_terminal_snr and prediction == "epsilon":
        raise ValueError(
            "`train.noise.zero_terminal_snr` is true, but the model's scheduler config has "
            "prediction_type 'epsilon': at pure noise such a model would only repeat its input. "
            "Set it to false, or take a model that predicts v."
        )

    def alpha_bar(t: "Tensor") -> "Tensor":
        """The variance of the latents."""
        of_steps: Tensor = scheduler.alphas_cumprod
        return of_steps.to(t.device)[t]

    return Objective(
        prediction=prediction,
        num_timesteps=count,
        integer_timesteps=True,
        timestep=lambda share: min(int(share * count), count - 1),
        corrupt=scheduler.add_noise,
        target=targets[prediction],
        snr=lambda t: alpha_bar(t) / (1 - alpha_bar(t)),
        sigma=lambda t: (1 - alpha_bar(t)).sqrt(),
        # Sampling must begin where training ended: at pure noise (Lin et al. 2023, section 3.3).
        sampler_changes=changed | {"timestep_spacing": "trailing"} if changed else {},
    )


def flow(scheduler_config: Mapping[str, Any], noise: Noise) -> Objective:
    """Rectified flow (Liu et al. 2022): the denoiser predicts the way from an image to noise.

    The noisy latents lie on the straight line (1 - s) latents + s noise. The scheduler config says
    how to sample; training does not depend on it.
    """

    def sigma(t: "Tensor") -> "Tensor":
        return t.float() / FLOW_TIMESTEPS

    def corrupt(latents: "Tensor", noise: "Tensor", t: "Tensor") -> "Tensor":
        s = sigma(t).to(latents.dtype).view(-1, 1, 1, 1)
        return (1 - s) * latents + s * noise

    return Objective(
        prediction="flow",
        num_timesteps=FLOW_TIMESTEPS,
        integer_timesteps=False,
        timestep=lambda share: share * FLOW_TIMESTEPS,
        corrupt=corrupt,
        target=lambda latents, noise, t: noise - latents,
        snr=lambda t: ((1 - sigma(t)) / sigma(t)).square(),
        sigma=sigma,
    )


OBJECTIVES: dict[str, Callable[[Mapping[str, Any], Noise], Objective]] = {
    "ddpm": ddpm,
    "flow": flow,
}
