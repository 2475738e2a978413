"""The objective's tables: timesteps, noise, loss and masks of a training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.config.section import Section


class Timesteps(Section):
    """How noisy the trained samples are."""

    distribution: Literal[
        "uniform", "sigmoid", "logit_normal", "heavy_tail", "cos_map", "inverted_parabola", "beta"
    ] = "uniform"
    """Which timesteps are drawn how often."""
    scale: float = 1.0
    """logit_normal: standard deviation; heavy_tail: above 0 favours the middle, below 0 both ends;
    sigmoid: steepness; inverted_parabola: depth (8 reaches 0 at both ends); beta: both shape
    parameters."""
    bias: float = 0.0
    """logit_normal: mean; sigmoid and inverted_parabola: shift of the middle. More noise for larger
    values."""
    min: float = Field(default=0.0, ge=0, lt=1)
    """Least noise, as a share of the schedule."""
    max: float = Field(default=1.0, gt=0, le=1)
    """Most noise, as a share of the schedule."""
    shift: float = Field(default=1.0, gt=0)
    """Moves timesteps towards more noise (> 1) or less, as flow models do at high resolution."""
    dynamic_shift: bool = False
    """Take the shift from the number of image tokens, by the model's scheduler config, instead
    (flow models only)."""

    @model_validator(mode="after")
    def _some_are_left(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min ({self.min}) must be less than max ({self.max})")
        return self


class Noise(Section):
    """The noise that samples are trained with."""

    offset: float = Field(default=0.0, ge=0)
    """Strength of additional noise that is the same all over a channel (offset noise)."""
    perturbation: float = Field(default=0.0, ge=0)
    """Strength of additional noise that the model sees and need not predict (input perturbation,
    Ning et al. 2023)."""
    zero_terminal_snr: bool = False
    """Rescale the schedule so that its last timestep is pure noise (Lin et al. 2023); for models
    that predict v."""


class LossConfig(Section):
    """The loss: a weighted sum, times a weight that depends on the timestep."""

    mse: float = Field(default=1.0, ge=0)
    """Share of the squared error."""
    mae: float = Field(default=0.0, ge=0)
    """Share of the absolute error."""
    huber: float = Field(default=0.0, ge=0)
    """Share of the Huber loss: squared for small errors, absolute for large ones."""
    huber_delta: float = Field(default=1.0, gt=0)
    """Where the Huber loss changes from one to the other."""
    log_cosh: float = Field(default=0.0, ge=0)
    """Share of log(cosh(error))."""
    weighting: Literal["constant", "min_snr_gamma", "debiased", "p2", "sigma"] = "constant"
    """Weight by timestep: min-SNR gamma, debiased estimation and P2 for diffusion models, sigma for
    flow models."""
    gamma: float = Field(default=5.0, gt=0)
    """min_snr_gamma: SNR from which on timesteps count less; p2: its exponent, usually 0.5 to 1."""

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not (self.mse or self.mae or self.huber or self.log_cosh):
            raise ValueError("one of mse, mae, huber, log_cosh must be greater than 0")
        return self


class MaskedTraining(Section):
    """How much of a sample counts, by its concept's `mask_source`."""

    enabled: bool = False
    """Weigh the loss by the masks."""
    unmasked_weight: float = Field(default=0.1, ge=0, le=1)
    """What black parts of a mask still count."""
    unmasked_probability: float = Field(default=0.0, ge=0, le=1)
    """Share of samples that train without their mask; models for inpainting paint all of them, also
    where `enabled` is false."""
    normalize: bool = False
    """Divide by the mask's mean, so that a small masked area counts as much as a whole image."""
    prior_weight: float = Field(default=0.0, ge=0)
    """Outside the mask, keep what the untrained model predicts, with this strength (adapters
    only)."""


class Ema(Section):
    """An averaged copy of the trained weights: it is what is saved and sampled."""

    kind: Literal["off", "device", "cpu"] = "off"
    """Where the copy is kept."""
    decay: float = Field(default=0.999, ge=0, lt=1)
    """Share of the copy that stays at an update; at most (1 + n) / (10 + n) at update n."""
    update_every: int = Field(default=5, ge=1)
    """Optimizer steps between updates."""
