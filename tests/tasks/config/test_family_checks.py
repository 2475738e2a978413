"""What a family does not allow, beyond the sizes that `test_problems.py` tries."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError

Write = Callable[..., Path]


def problems(file: Path, *options: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, options, {})
    return {problem.key: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("z_image", "72 must be a multiple of 16 for z_image; nearest: 64 or 80"),
        ("flux2", "72 must be a multiple of 16 for flux2; nearest: 64 or 80"),
        ("sana", "72 must be a multiple of 32 for sana; nearest: 64 or 96"),
        ("sd15", None),
    ],
)
def test_samples_have_whole_tokens(write: Write, family: str, told: str | None) -> None:
    found = problems(write(), f"model.family={family}", "train.sample.width=72", "train.epochs=0")
    assert found.get("train.sample.width") == told


def test_inpainting_models_want_cached_latents(write: Write) -> None:
    options = ("data.latent_caching=false", "train.epochs=0")
    assert "data.latent_caching" not in problems(write(), *options)
    found = problems(write(), *options, "model.family=sd15_inpaint")
    assert found["data.latent_caching"].startswith("must be true for sd15_inpaint")
