"""Calls on a Dask cluster: where those that use a GPU go, and what becomes of errors."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.config.problems import ConfigError
from tasks.runners.clusters import dask

distributed = pytest.importorskip("distributed", reason="an extra that the lock leaves out")
WORKER = [Path(sys.executable).parent / "dask", "worker", "--nthreads", "1", "--no-dashboard"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two workers; one has a GPU, so it is told, and ROLE in its environment."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        has_gpu = subprocess.Popen(
            [*WORKER, cluster.scheduler_address, "--host", "127.0.0.1", "--resources", "GPU=1"],
            env={**os.environ, "ROLE": "gpu"},
        )
        with distributed.Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield cluster.scheduler_address
        has_gpu.terminate()
        has_gpu.wait(15)


def test_calls_that_use_a_gpu_go_where_one_is(address: str) -> None:
    with dask(0, address, 0.5) as call, ThreadPoolExecutor(8) as threads:

        def role(on_gpu: bool) -> str | None:
            found: str | None = call(os.getenv, "ROLE", on_gpu=on_gpu)
            return found

        assert set(threads.map(role, [True] * 16)) == {"gpu"}
        assert None in set(threads.map(role, [False] * 16))


def test_an_error_is_raised_here(address: str) -> None:
    with dask(0, address, 0.0) as call, pytest.raises(ValueError, match="invalid literal"):
        call(int, "x")


def test_nobody_at_an_address_is_bad_input() -> None:
    with (
        pytest.raises(ConfigError, match=r"workers\.address"),
        dask(0, "tcp://127.0.0.1:9", 0.0),
    ):
        pass
