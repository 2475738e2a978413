"""Training in processes of its own: crash, resume, cancel, and no process left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from tasks.train.backup import newest_backup, read_facts
from tasks.train.events import read_status
from tasks.train.processes import PARENT_VARIABLE, only_runner, start_from_own_thread
from tasks.train.runner import TrainingCrashed, run_training
from tasks.train.spec import write_spec

ROOT = Path(__file__).parents[3]
CALLER = """
import sys
from pathlib import Path
from tasks.train.runner import run_training
from tasks.train.spec import read_spec
run_training(read_spec(Path(sys.argv[1])))
"""


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_killed_caller_a_killed_rank_and_going_on_to_the_same_model(bench):
    """One story, because each start of the processes costs seconds of imports."""
    endless = {"max_steps": 10**6, "backup": {"every": 2, "keep": 3}}
    alone = {**endless, "gradient_accumulation_steps": 2}
    spec = bench.spec("story", **alone)
    _kill_the_caller(spec)
    stopped_at = read_facts(newest_backup(spec.backups))["step"]
    assert read_status(spec.workspace)["state"] == "interrupted"
    assert read_status(spec.workspace)["step"] == stopped_at

    # Two ranks now: the same global batch without accumulation, hence the same steps.
    spec = bench.spec("story", **endless, processes=2)
    crash = _kill_a_rank(spec, after_step=stopped_at + 4)
    assert crash.resumable
    assert not crash.interrupted
    assert "SIGKILL" in crash.log_tail or "-9" in crash.log_tail
    assert read_status(spec.workspace)["state"] == "failed"
    backup = newest_backup(spec.backups)
    assert read_facts(backup)["step"] >= stopped_at + 2

    last = read_facts(backup)["step"] + 2
    spec = bench.spec("story", **alone)
    again = replace(spec, resume_from=backup, stop_after_steps=2)
    assert bench.train(again) == "stopped"
    never_stopped = bench.spec("alone", **alone)
    assert bench.train(replace(never_stopped, stop_after_steps=last)) == "stopped"
    left = load_file(newest_backup(spec.backups) / "denoiser.safetensors")
    right = load_file(newest_backup(never_stopped.backups) / "denoiser.safetensors")
    # Adam turns rounding noise into steps of full size where a gradient is near zero.
    worst = max((left[name] - right[name]).abs().max().item() for name in right)
    assert worst < 1e-3


def _kill_the_caller(spec) -> None:
    write_spec(spec)
    arguments = [sys.executable, "-c", CALLER, str(spec.workspace / "spec.json")]
    with (spec.workspace / "caller.log").open("wb") as log:
        caller = subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=log)
    events = spec.workspace / "events.jsonl"
    wait_until(lambda: events.exists() and '"step": 3' in events.read_text())
    family = psutil.Process(caller.pid).children(recursive=True)
    assert len(family) == 2
    caller.kill()
    caller.wait()
    _, alive = psutil.wait_procs(family, timeout=spec.config.train.grace_seconds)
    assert not alive


def _kill_a_rank(spec, after_step: int) -> TrainingCrashed:
    ranks, told = [], []
    backup = newest_backup(spec.backups)

    def on_event(event):
        told.append(event)
        if event["event"] == "step" and event["step"] >= after_step and not ranks:
            ranks.append(read_status(spec.workspace)["pid"])
            os.kill(ranks[0], signal.SIGKILL)

    with pytest.raises(TrainingCrashed) as caught:
        run_training(spec, on_event=on_event)
    assert not psutil.pid_exists(ranks[0])
    assert told[0]["event"] == "start"
    assert told[0]["resumed_from"] == str(backup)
    return caught.value


def test_no_rank_outlives_a_killed_launcher(bench):
    spec = bench.spec(max_steps=10**6, backup={"every": 2, "keep": 3})
    family: list[psutil.Process] = []

    def on_event(event):
        if event["event"] == "backup" and not family:
            (launcher,) = (
                child
                for child in psutil.Process().children()
                if "tasks.train.launch" in child.cmdline()
            )
            family.extend([launcher, *launcher.children(recursive=True)])
            launcher.kill()

    with pytest.raises(TrainingCrashed) as caught:
        run_training(spec, on_event=on_event)
    assert caught.value.resumable
    assert len(family) == 2, "a launcher and a rank"
    wait_until(lambda: not any(map(_is_alive, family)), spec.config.train.grace_seconds)
    newest = read_facts(newest_backup(spec.backups))["step"]
    assert newest == read_status(spec.workspace)["step"], "the rank backed up before it ended"


def _is_alive(process: psutil.Process) -> bool:
    """A rank that was adopted may stay a zombie until somebody asks how it ended."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_cancel_before_the_first_step_ends_at_once(bench):
    spec = bench.spec()
    start = time.monotonic()
    with pytest.raises(TrainingCrashed) as caught:
        run_training(spec, should_cancel=lambda: True)
    assert caught.value.interrupted
    assert time.monotonic() - start < spec.config.train.grace_seconds
    assert read_status(spec.workspace)["state"] == "interrupted"


def test_a_launcher_without_its_parent_does_not_start(bench):
    spec_path = write_spec(bench.spec())
    environment = {**os.environ, PARENT_VARIABLE: "1"}
    command = [sys.executable, "-m", "tasks.train.launch", str(spec_path)]
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 74


def test_a_workspace_is_trained_in_once_at_a_time(bench):
    spec = bench.spec()
    spec.workspace.mkdir(parents=True)
    with (
        only_runner(spec.workspace, patience=0),
        pytest.raises(ValueError, match="by another process"),
    ):
        run_training(spec)


def test_what_cannot_work_is_refused_before_anything_starts(bench):
    spec = bench.spec()
    model = spec.config.model.model_copy(update={"output_format": "diffusers"})
    memory = spec.config.store.model_copy(update={"url": "memory://x"})
    cases = {
        "memory://x": replace(spec, config=spec.config.model_copy(update={"store": memory})),
        "float16": bench.spec(train_dtype="float16"),
        "kohya_lora, diffusers_lora": replace(
            spec, config=spec.config.model_copy(update={"model": model})
        ),
        "train.compile = true is for GPUs": bench.spec(compile=True),
        "cannot go on from backup": replace(spec, resume_from=bench.folder / "nothing"),
    }
    for text, case in cases.items():
        with pytest.raises(ValueError, match=text):
            run_training(case)
    assert not (spec.workspace / "events.jsonl").exists()


def test_a_watchdog_ends_a_process_whose_main_thread_hangs(tmp_path):
    code = (
        "import ctypes, sys\n"
        "from tasks.train.processes import watch_stop_signals\n"
        "watch_stop_signals(0.3)\n"
        "sys.stdout.write('ready\\n'); sys.stdout.flush()\n"
        "ctypes.CDLL(None).sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    start = time.monotonic()
    process.terminate()
    _, printed = process.communicate(timeout=10)
    assert 0.2 < time.monotonic() - start < 5
    assert process.returncode == 1
    assert b"Timeout" in printed


def test_a_thread_that_ends_does_not_take_the_launcher_with_it(tmp_path):
    """Why runner.py keeps the starting thread: shown on the bare mechanism."""
    code = (
        "import os, time\n"
        "from tasks.train.processes import end_with_parent\n"
        "end_with_parent()\n"
        "open(os.environ['READY'], 'w').close()\n"
        "time.sleep(60)\n"
    )
    ready = tmp_path / "ready"
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid()), "READY": str(ready)}

    kept = start_from_own_thread(
        [sys.executable, "-c", code], environment | {"PYTHONPATH": str(ROOT)}, tmp_path / "log"
    )
    wait_until(ready.exists, 10)
    time.sleep(0.3)
    assert kept.poll() is None
    kept.terminate()
    kept.wait()

    ready.unlink()
    lost = []
    thread = threading.Thread(
        target=lambda: (
            lost.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment))
            or wait_until(ready.exists, 10)
        )
    )
    thread.start()
    thread.join()
    assert lost[0].wait(10) == -signal.SIGTERM


def test_a_crash_is_picklable():
    import pickle

    crash = TrainingCrashed("text", returncode=-9, log_tail="tail", resumable=False)
    back = pickle.loads(pickle.dumps(crash))
    assert (str(back), back.returncode, back.resumable) == ("text", -9, False)
    assert json.dumps(back.log_tail) == '"tail"'
