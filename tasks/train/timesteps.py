"""Timestep distributions: from a uniform number in [0, 1) to a timestep of the schedule."""

from collections.abc import Callable


def uniform_timestep(u: float, num_timesteps: int) -> int:
    """Every timestep is equally likely."""
    return min(int(u * num_timesteps), num_timesteps - 1)


TIMESTEPS: dict[str, Callable[[float, int], int]] = {"uniform": uniform_timestep}
