"""Loss weightings: how much a sample counts by its timestep t (B,), as a weight (B,).

SNR is the signal-to-noise ratio of a timestep: the variance of the image in the noisy latents over
that of the noise. `v` marks models that predict v: their loss is the error of the clean image times
SNR + 1, that of epsilon models is the same error times SNR.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.train.objectives import Objective

if TYPE_CHECKING:
    from torch import Tensor

    Weighting = Callable[[Objective, Tensor, float], Tensor]

LARGEST_SNR = 1e3
"""Where the debiased weight stops to fall, as in other trainers."""


def constant(objective: Objective, t: "Tensor", gamma: float) -> "Tensor":
    """Every timestep counts the same."""
    import torch

    return torch.ones_like(t, dtype=torch.float32)


def min_snr_gamma(objective: Objective, t: "Tensor", gamma: float) -> "Tensor":
    """min(SNR, gamma) / SNR; v: min(SNR, gamma) / (SNR + 1).

    Both weigh the error of the clean image by min(SNR, gamma) (Hang et al. 2023, "Efficient
    Diffusion Training via Min-SNR Weighting Strategy").
    """
    snr = objective.snr(t)
    if objective.prediction == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    # Not min(SNR, gamma) / SNR, which is not a number where the SNR is 0.
    return (gamma / snr).clamp(max=1)


def debiased(objective: Objective, t: "Tensor", gamma: float) -> "Tensor":
    """1 / sqrt(SNR); v: 1 / sqrt(SNR + 1); SNR at most 1000.

    By so much an error of the prediction is larger in the clean image that it stands for (Yu et al.
    2023, "Debias the Training of Diffusion Models").
    """
    snr = objective.snr(t).clamp(max=LARGEST_SNR)
    return (snr + 1 if objective.prediction == "v_prediction" else snr).rsqrt()


def p2(objective: Objective, t: "Tensor", gamma: float) -> "Tensor":
    """(SNR + 1) ^ -gamma, whatever the model predicts; v with gamma = 0.5: the debiased weight.

    Choi et al. 2022, "Perception Prioritized Training of Diffusion Models", with k = 1.
    """
    return (objective.snr(t) + 1) ** -gamma


def sigma(objective: Objective, t: "Tensor", gamma: float) -> "Tensor":
    """The share of noise: noisy timesteps count more, as in OneTrainer."""
    return objective.sigma(t)


WEIGHTINGS: "dict[str, Weighting]" = {
    "constant": constant,
    "min_snr_gamma": min_snr_gamma,
    "debiased": debiased,
    "p2": p2,
    "sigma": sigma,
}
