"""Processes that call functions for this one: what they give, and how they end."""

import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tasks.runners.place import WorkerLost
from tasks.runners.processes import processes


def test_a_process_is_used_again_and_ends_with_the_context() -> None:
    with processes() as call:
        (first, again) = (call(os.getpid), call(os.getpid))
        assert first == again != os.getpid()
    assert not psutil.pid_exists(first)


def test_threads_have_processes_of_their_own() -> None:
    with processes() as call, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(call, time.sleep, 1.0)
        pids = {threads.submit(call, os.getppid).result(), os.getpid()}
        slow.result()
        assert pids == {os.getpid()}
        assert len(psutil.Process().children()) >= 2


def test_an_error_is_raised_here_with_where_it_was_raised() -> None:
    with processes() as call:
        first = call(os.getpid)
        with pytest.raises(ValueError, match="invalid literal") as raised:
            call(int, "x")
        assert "in a worker process" in raised.value.__notes__[0]
        assert call(os.getpid) == first


def test_an_error_that_survives_no_pickling_keeps_its_text() -> None:
    with processes() as call, pytest.raises(RuntimeError, match="UnicodeTranslateLike"):
        call(exec, "class UnicodeTranslateLike(Exception): pass\nraise UnicodeTranslateLike()")


@pytest.mark.parametrize(
    ("function", "arguments", "told"),
    [
        (os._exit, (3,), "ended with exit code 3"),
        (signal.raise_signal, (signal.SIGKILL,), "killed by signal 9 .*memory"),
        (os.abort, (), "killed by signal 6"),
    ],
)
def test_a_lost_process_is_told_and_another_one_takes_its_place(
    function: object, arguments: tuple[int, ...], told: str
) -> None:
    with processes() as call:
        lost = call(os.getpid)
        with pytest.raises(WorkerLost, match=told):
            call(function, *arguments)
        assert call(os.getpid) != lost


def test_warnings_of_a_process_are_those_of_its_parent(caplog: pytest.LogCaptureFixture) -> None:
    with processes() as call:
        call(logging.getLogger("tilewright.test").warning, "seen %d times", 3)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("tilewright.test", "seen 3 times")
    ]


STOPPED = """
import signal, threading
from tasks import progress
from tasks.runners.processes import processes
threading.Timer(1.0, progress.stop).start()
with processes() as call:
    try:
        call(signal.pause)
    except KeyboardInterrupt:
        print("stopped")
"""


def test_a_process_is_told_to_stop_when_its_parent_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("stopped\n", "")
