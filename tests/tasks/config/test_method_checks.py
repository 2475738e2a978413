"""What is trained and how must fit together; each problem names the key and says why."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError

Write = Callable[..., Path]
WORD = 'train.embeddings=[{placeholder="<x>"}]'
OTHER = 'train.embeddings=[{placeholder="<x>"},{placeholder="<x>y"}]'
ENDS = "train.embeddings=[{placeholder='<x>', stop_after={n=1}}]"


def problems(file: Path, options: Sequence[str]) -> dict[str, str]:
    try:
        load_config(file, options, {})
    except ConfigError as error:
        return {problem.key: problem.message for problem in error.problems}
    return {}


@pytest.mark.parametrize(
    ("options", "key", "told"),
    [
        (["train.method.kind=embedding"], "train.method.kind", "train.embeddings is empty"),
        (
            ["train.method.kind=embedding", WORD, "parts.text_encoder_1.train=true"],
            "parts.text_encoder_1.train",
            "trains no weights of it",
        ),
        (["parts.denoiser.train=false"], "parts.denoiser.train", "nothing would be trained"),
        ([OTHER], "train.embeddings.1.placeholder", "is, or is part of, the placeholder '<x>'"),
        (
            ['train.embeddings=[{placeholder="two words"}]'],
            "train.embeddings.0.placeholder",
            "one word",
        ),
        (
            ["parts.denoiser.stop_after={n=1}"],
            "parts.denoiser.stop_after",
            "ends the last part that trains",
        ),
        (
            ["train.method.kind=embedding", ENDS],
            "train.embeddings.0.stop_after",
            "ends the last part that trains",
        ),
        (
            ["train.method.kind=full", "concepts.0.type=prior_prediction"],
            "concepts.0.type",
            "only adapters",
        ),
        (
            [
                "train.mask.enabled=true",
                "data.latent_caching=false",
                "concepts.0.image.mask_source=alpha",
            ],
            "train.mask.enabled",
            "masks are cached with latents",
        ),
        (["train.method.initial=gone.safetensors"], "train.method.initial", "no such file"),
        (
            ["train.method.dora=true", "train.base_weights=int8"],
            "train.base_weights",
            "without dora alone",
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_explained(write: Write, options, key, told) -> None:
    found = problems(write(), options)
    assert key in found, found
    assert told in found[key]


@pytest.mark.parametrize(
    "options",
    [
        [WORD],
        ["parts.denoiser.stop_after={n=1}", "parts.text_encoder_1.train=true"],
        ["parts.denoiser.train=false", "parts.text_encoder_1.train=true"],
        ["concepts.0.type=prior_prediction", "train.method.kind=loha"],
        ["train.base_weights=float8"],
    ],
)
def test_what_fits_is_no_problem(write: Write, options) -> None:
    assert not problems(write(), options)
