"""Captioning by a server on this machine and training take turns: a Prefect concurrency limit."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.gpu.task import limit_name
from tasks.pipeline.run import uses_gpu
from tests.caption_server import DIGEST, CaptionServer, Fault
from tests.model_fixtures import TinyModels
from tests.projects import make_project
from tests.server_fixtures import BIN, PrefectServer, wait_for

CROPS = "concepts.0.image.detail_crops."
LIMITED = ("--set", "gpu_limit=true")


def captioning(url: str) -> tuple[str, ...]:
    crops = {"enable_captioning": "true", "caption_endpoint": url, "caption_model": "tiny"}
    return tuple(f"{CROPS}{key}={value}" for key, value in crops.items())


def limit(server: PrefectServer) -> dict[str, Any]:
    """The limit of this machine, as the Prefect UI shows it."""
    found = server.post("/v2/concurrency_limits/filter")
    return next((dict(one) for one in found if one["name"] == limit_name()), {})


@pytest.mark.slow
def test_training_waits_until_captioning_has_left_the_gpu(
    prefect_server: PrefectServer, tiny_models: TinyModels, tmp_path: Path
) -> None:
    captioned = make_project(tmp_path / "captioned", tiny_models["sd15"], num_photos=1)
    trained = make_project(tmp_path / "trained", tiny_models["sd15"], num_photos=1)
    trained.prepare()
    with CaptionServer({"tiny:latest": DIGEST}, Fault.hang()) as server:
        options = [part for one in captioning(server.url) for part in ("--set", one)]
        command = [BIN / "tilewright", "prepare", captioned.run_toml, *options, *LIMITED]
        first = prefect_server.start(*command, stderr=subprocess.DEVNULL)
        wait_for(lambda: server.asked(), 120)
        held = limit(prefect_server)
        assert (held["limit"], held["active_slots"]) == (1, 1)
        with (tmp_path / "train.log").open("w") as log:
            command = [BIN / "tilewright", "train", trained.run_toml, *LIMITED]
            second = prefect_server.start(*command, stderr=log)
        wait_for(lambda: "waiting for the GPU" in (tmp_path / "train.log").read_text(), 120)
        assert not list((trained.folder / "store" / "runs").glob("*/backups/*"))
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 130
        assert second.wait(120) == 0, (tmp_path / "train.log").read_text()
    assert limit(prefect_server)["active_slots"] == 0


@pytest.mark.parametrize(
    ("url", "uses"),
    [
        ("http://localhost:11434", True),
        ("http://127.0.0.1:1234/v1", True),
        ("http://192.0.2.7:11434", False),
    ],
)
def test_only_a_server_on_this_machine_uses_its_gpu(
    tiny_models: TinyModels, tmp_path: Path, url: str, uses: bool
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    assert uses_gpu(project.config(*captioning(url)), "captions") == uses
    assert not uses_gpu(project.config(f"{CROPS}caption_endpoint={url}"), "captions")
