"""Random draws of training, each from its own counter: (seed, purpose, epoch, position).

`position` is the place of a training entry in its epoch. Because no draw depends on another, a
resumed run needs no random state, and every number of ranks draws the same values.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Purpose = Literal[
    "noise",
    "offset",
    "perturbation",
    "timestep",
    "prompt",
    "dropout",
    "unmasked",
    "forward",
    "init",
    "rounding",
]


def draw_seed(seed: int, purpose: Purpose, epoch: int, position: int) -> int:
    """A 64-bit number for one draw, non-negative and below 2**63."""
    name = f"{seed}:{purpose}:{epoch}:{position}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little") >> 1


def uniform(seed: int, purpose: Purpose, epoch: int, position: int) -> float:
    """A number in [0, 1)."""
    return (draw_seed(seed, purpose, epoch, position) >> 10) / 2**53


def normal(shape: tuple[int, ...], seed: int, epoch: int, positions: Sequence[int]) -> "Tensor":
    """Standard normal noise of one shape per position, stacked: (len(positions), *shape)."""
    return _stacked("noise", shape, seed, epoch, positions)


def offset_noise(channels: int, seed: int, epoch: int, positions: Sequence[int]) -> "Tensor":
    """A standard normal number per channel, (len(positions), channels, 1, 1).

    Added to the noise, it teaches the model to change an image's mean brightness and colour, which
    the noise alone leaves as they are (Guttenberg 2023, "Diffusion with Offset Noise").
    """
    return _stacked("offset", (channels, 1, 1), seed, epoch, positions)


def perturbation(
    shape: tuple[int, ...], seed: int, epoch: int, positions: Sequence[int]
) -> "Tensor":
    """More standard normal noise, (len(positions), *shape): the model sees it in its input only.

    So it learns from inputs that are as wrong as its own when it samples (Ning et al. 2023, "Input
    Perturbation Reduces Exposure Bias in Diffusion Models").
    """
    return _stacked("perturbation", shape, seed, epoch, positions)


def _stacked(
    purpose: Purpose, shape: tuple[int, ...], seed: int, epoch: int, positions: Sequence[int]
) -> "Tensor":
    import torch

    noise = torch.empty(len(positions), *shape)
    generator = torch.Generator(device="cpu")
    for row, position in zip(noise, positions, strict=True):
        generator.manual_seed(draw_seed(seed, purpose, epoch, position))
        row.normal_(generator=generator)
    return noise
