"""`tilewright tensorboard`: the real TensorBoard over HTTP, for runs here and in a store."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows import tensorboard_command
from storage.store import Store, open_store
from tasks.report.run_board import board_link, board_markdown
from tasks.train.mirror import mirror
from tests.projects import RUN_TOML

RUNS = [f"20261126-20060{number}-{name}-0bce1d" for number, name in enumerate(("a", "test"))]


def make_run(folder: Path, run_id: str, steps: Sequence[int]) -> Path:
    """A workspace with the curve of a loss."""
    from torch.utils.tensorboard import SummaryWriter

    workspace = folder / run_id
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "run.json").write_text("{}")
    with SummaryWriter(str(workspace / "tensorboard")) as board:
        for step in steps:
            board.add_scalar("train/loss", float(step), step)
    return workspace


@pytest.fixture
def store(local_store: Store) -> Store:
    for run_id in RUNS:
        make_run(Path(local_store.url) / "runs", run_id, (1, 2))
    return local_store


@contextmanager
def board(*arguments: str | Path, end: int = signal.SIGINT) -> Iterator[tuple[str, psutil.Process]]:
    """A running command: its address and its process; it must end well."""
    command = [sys.executable, "-m", "flows", "tensorboard", *map(str, arguments)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        command, cwd=root, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, process.communicate()[1]
        yield url, psutil.Process(process.pid)
        process.send_signal(end)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0 and f"{url} has ended" in err
    finally:
        process.kill()
        process.wait()


def read(url: str, path: str, **query: str) -> Any:
    return httpx.get(f"{url}data/{path}", params=query, trust_env=False, timeout=30).json()


def runs_of(url: str, count: int) -> list[str]:
    """The runs that TensorBoard shows, once there are so many."""
    deadline = time.monotonic() + 60
    while len(found := read(url, "runs")) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return sorted(found)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_runs_of_a_store_until_it_is_interrupted(store: Store, end: int) -> None:
    with board(store.url, end=end) as (url, process):
        assert url.startswith("http://127.0.0.1:")
        assert runs_of(url, 2) == RUNS
        query = {"run": RUNS[0], "tag": "train/loss"}
        losses = read(url, "plugin/scalars/scalars", **query)
        assert [(step, value) for _, step, value in losses] == [(1, 1.0), (2, 2.0)]
        assert process.children(recursive=True) == [], "a kill leaves nothing behind"
        port = int(url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(httpx.ConnectError):
        read(url, "runs")
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_the_runs_of_a_configuration_and_one_run(store: Store, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(RUN_TOML.format(family="sd15", base="nowhere"))
    with board(config) as (url, _):
        assert runs_of(url, 1) == RUNS[1:]
    with board(Path(store.url) / "runs" / RUNS[0]) as (url, _):
        assert runs_of(url, 1) == RUNS[:1]


def test_runs_that_only_a_store_elsewhere_has(s3_url: str, tmp_path: Path) -> None:
    store = open_store(s3_url)
    workspace = make_run(tmp_path / "there", RUNS[0], (1, 2, 3))
    (workspace / "output").mkdir()
    (workspace / "output" / "model.safetensors").write_bytes(b"weights")
    mirror(store, RUNS[0], workspace)
    with board(s3_url) as (url, _):
        assert runs_of(url, 1) == RUNS[:1]
        losses = read(url, "plugin/scalars/scalars", run=RUNS[0], tag="train/loss")
        assert len(losses) == 3

    folder = tmp_path / "copy"
    folder.mkdir()
    assert tensorboard_command.gather_runs(s3_url, folder) == 1
    (events,) = (path for path in (folder / "copies").rglob("*") if path.is_file())
    before = events.stat()
    assert tensorboard_command.gather_runs(s3_url, folder) == 1
    assert events.stat().st_mtime_ns == before.st_mtime_ns, "nothing new was there"
    with next(workspace.glob("tensorboard/*")).open("ab") as file:
        file.write(b"more")
    make_run(tmp_path / "there", RUNS[1], (1,))
    mirror(store, RUNS[0], workspace)
    mirror(store, RUNS[1], tmp_path / "there" / RUNS[1])
    assert tensorboard_command.gather_runs(s3_url, folder) == 2
    assert events.stat().st_size == before.st_size + len(b"more")


def test_new_runs_appear_and_a_store_that_is_away_ends_nothing(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    assert tensorboard_command.gather_runs(store.url, folder) == 2
    make_run(Path(store.url) / "runs", "20261127-000000-a-0bce1d", (1,))
    tensorboard_command._refresh(store.url, folder)
    assert len(list((folder / tensorboard_command.LINKS).iterdir())) == 3
    tensorboard_command._refresh(str(tmp_path / "gone"), folder)
    assert "not up to date" in capfd.readouterr().err


def test_bad_input_is_told(store: Store, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        empty = open_store(str(tmp_path / "empty"))
        for arguments, told in (
            ((store.url, "--port", port), "cannot be served there"),
            ((store.url, "--host", "no.such.host.invalid"), "is no address of this machine"),
            ((), "run.toml"),
            ((tmp_path / "nothing",), "there is no store at"),
            ((empty.url,), "has no runs yet"),
            ((store.url, "--port", "70000"), "--port"),
        ):
            command = [sys.executable, "-m", "flows", "tensorboard", *map(str, arguments)]
            root = Path(__file__).parents[2]
            done = subprocess.run(
                command, cwd=root, env=os.environ, capture_output=True, text=True, timeout=120
            )
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert told in " ".join(done.stderr.split())


def test_only_what_a_browser_follows_is_a_link() -> None:
    link = board_link("http://board:6006/", RUNS[0])
    assert link == "http://board:6006/?runFilter=20261126%5C-200600%5C-a%5C-0bce1d#timeseries"
    assert str(board_link("https://host/boards/", RUNS[0])).startswith("https://host/boards/?run")
    refused = ("", "board:6006", "s3://bucket/runs", "javascript:alert(1)", "http://", "file:///a")
    assert {board_link(one, RUNS[0]) for one in (*refused, "http://me:secret@board")} == {None}


def test_what_to_type() -> None:
    here = board_markdown("/my runs/a", "/store", "a")
    assert "    tilewright tensorboard '/my runs/a'\n" in here and "Elsewhere" not in here
    assert "    tilewright tensorboard s3://b/store\n" in board_markdown("/a", "s3://b/store", "a")
