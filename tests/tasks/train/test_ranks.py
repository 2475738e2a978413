"""Two processes train what one trains: the same losses and weights within float tolerance."""

import multiprocessing
import os
import socket
from threading import Event

import pytest
from safetensors.torch import load_file

from tasks.train.backup import newest_backup, part_file
from tasks.train.child import train_rank
from tasks.train.events import loss_history
from tasks.train.spec import TrainSpec, write_spec
from tests.tasks.train.synthetic import make_dataset

STOPS = {"train": True, "learning_rate": 1e-3, "stop_after": {"n": 3, "unit": "step"}}


@pytest.mark.parametrize(
    ("train", "parts"),
    [
        ({"method": {"kind": "full"}}, {}),
        ({"method": {"kind": "lora", "rank": 2}}, {"text_encoder_1": STOPS}),
        ({"embeddings": [{"placeholder": "prompt", "initial_text": "a"}]}, {}),
    ],
    ids=["full", "lora and a text encoder that stops", "a word"],
)
def test_two_ranks_train_what_one_trains(bench, train, parts):
    bench.version = make_dataset(bench.store, ((64, 64),) * 7 + ((64, 96),) * 5)
    settings = train | {"max_steps": 8, "learning_rate": 1e-3, "ema": {"kind": "cpu"}}
    one = with_parts(bench.spec("one", gradient_accumulation_steps=2, **settings), parts)
    two = with_parts(bench.spec("two", processes=2, **settings), parts)
    assert bench.train(one) == "done"
    train_in_forks(two)
    alone, together = loss_history(one.workspace), loss_history(two.workspace)
    assert list(alone) == list(together) == list(range(1, 9))
    assert list(together.values()) == pytest.approx(list(alone.values()), rel=1e-3)
    names = [part_file(name) for name in ("denoiser", *parts)]
    for name in names:
        left, right = (load_file(newest_backup(spec.backups) / name) for spec in (one, two))
        # Adam turns rounding noise into steps of full size where a gradient is near zero.
        worst = max((left[key] - right[key]).abs().max().item() for key in left)
        assert worst < 8 * 1e-3


def with_parts(spec: TrainSpec, parts) -> TrainSpec:
    values = spec.config.model_dump() | {"parts": parts}
    values["model"] |= {"output": "out", "output_format": "diffusers"}
    if spec.config.train.method.kind != "full":
        values["model"] |= {"output": "out.safetensors", "output_format": "kohya_lora"}
    config = type(spec.config).model_validate(values)
    return TrainSpec(**{name: getattr(spec, name) for name in spec.__slots__} | {"config": config})


def train_in_forks(spec: TrainSpec) -> None:
    """Both ranks as forks of this process, which has loaded everything."""
    write_spec(spec)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(spec, rank, port)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]


def _rank(spec: TrainSpec, rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    assert train_rank(spec, Event(), rank, rank) == "done"
