"""What is said of `[workers]` that cannot be right, and where nothing is said of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError

Write = Callable[..., Path]
DASK = ("workers.runner=dask",)
AT_ADDRESS = (*DASK, "workers.address=tcp://10.0.0.1:8786")


def problems(file: Path, *options: str) -> dict[str, str]:
    try:
        load_config(file, options, {})
    except ConfigError as error:
        return {problem.key: problem.message for problem in error.problems}
    return {}


@pytest.mark.parametrize(
    ("options", "key", "told"),
    [
        (("workers.runner=dsk",), "workers.runner", 'did you mean "dask"?'),
        (("workers.count=-1",), "workers.count", "greater than or equal to 0"),
        (("workers.count=2",), "workers.count", "must be 0 or 1"),
        ((*AT_ADDRESS, "workers.count=2"), "workers.count", "a cluster at an address has its own"),
        (("workers.address=tcp://10.0.0.1:8786",), "workers.address", 'runner = "dask" or "ray"'),
        (("workers.runner=processes", "workers.gpus=0.5"), "workers.gpus", "take turns"),
        (
            ("workers.runner=ray", "workers.address=ray://10.0.0.1:10001"),
            "workers.address",
            "not that of Ray Client",
        ),
        ((*DASK, "workers.gpus=2"), "workers.gpus", "less than or equal to 1"),
        ((*DASK, "store.url=memory://store"), "store.url", "must be a folder or s3://"),
        (
            ("workers.runner=processes", "store.url=memory://store"),
            "store.url",
            "processes are other processes",
        ),
    ],
)
def test_each_mistake_is_told_with_its_place(
    write: Write, options: tuple[str, ...], key: str, told: str
) -> None:
    found = problems(write(), *options)
    assert list(found) == [key]
    assert told in found[key]


@pytest.mark.parametrize(
    "options",
    [
        ("workers.count=1",),
        ("store.url=memory://store",),
        ("workers.runner=processes", "workers.count=3"),
        (*DASK, "workers.count=3", "workers.gpus=0.5"),
        (*AT_ADDRESS, "workers.gpus=1"),
        ("workers.runner=ray", "workers.address=10.0.0.1:6379"),
    ],
)
def test_what_a_runner_can_do_is_allowed(write: Write, options: tuple[str, ...]) -> None:
    assert problems(write(), *options) == {}
