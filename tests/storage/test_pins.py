"""Pins: of a preparation and a sweep that begin together, one waits or gives up."""

import json
import signal
import time
from pathlib import Path

import pytest

from storage import pins
from storage.errors import InUseError, NotFoundError
from storage.pins import delete_stale_pins, live_pins, pinned, sweeping
from storage.store import Store, open_store
from tests.storage.histories import NAME, add_latents, add_version
from tests.storage.samples import python

HOLDER = """
import sys, time
from storage.pins import pinned, sweeping
from storage.store import open_store
store = open_store(sys.argv[1], create=False)
with sweeping(store) if sys.argv[2] == "sweep" else pinned(store, sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline() if sys.argv[3] == "ask" else time.sleep(float(sys.argv[3]))
print("let go", time.time(), flush=True)
"""


def test_a_sweep_gives_up_while_others_are_at_work(store: Store) -> None:
    with pinned(store, "prepare"):
        (pin,) = live_pins(store)
        with pytest.raises(InUseError, match=r"prepare on .*Nothing was deleted"), sweeping(store):
            pass
        assert live_pins(store) == [pin], "the pin of the sweep is gone"
    with sweeping(store), pytest.raises(InUseError, match="sweep on"), sweeping(store):
        pass
    assert store.list("pins") == {}


def test_a_training_pins_its_version_alone(store: Store) -> None:
    add_latents(store, [1])
    version = add_version(store, [1])
    with pinned(store, "train", NAME, version.number), sweeping(store):
        (pin,) = [pin for pin in live_pins(store) if pin.what == "train"]
        assert (pin.dataset, pin.version) == (NAME, 1)
    with pytest.raises(NotFoundError, match="no version 2"), pinned(store, "train", NAME, 2):
        pass
    assert store.list("pins") == {}


def test_a_preparation_waits_for_a_sweep(local_store: Store) -> None:
    sweep = python(HOLDER, local_store.url, "sweep", "1.5")
    assert sweep.stdout is not None and sweep.stdout.readline() == b"held\n"
    with pinned(local_store, "prepare"):
        began = time.time()
    let_go = float(sweep.communicate()[0].split()[-1])
    assert began >= let_go - 0.2
    assert local_store.list("pins") == {}


@pytest.mark.parametrize("what", ["prepare", "sweep"])
def test_who_was_killed_holds_nobody_up(local_store: Store, what: str) -> None:
    holder = python(HOLDER, local_store.url, what, "60")
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(local_store.list("pins")) == 1 and live_pins(local_store) == []
    started = time.monotonic()
    with pinned(local_store, "prepare"):
        pass
    with sweeping(local_store):
        delete_stale_pins(local_store)
        assert len(local_store.list("pins")) == 1, "but its own"
    assert time.monotonic() - started < 1


def test_pins_of_other_machines_count_while_they_are_renewed(local_store: Store) -> None:
    with pinned(local_store, "prepare"):
        (path,) = local_store.list("pins")
        told = json.loads(local_store.read_bytes(path))
    for age, live in ((pins.STALE_SECONDS - 60, True), (pins.STALE_SECONDS + 60, False)):
        elsewhere = told | {"place": "elsewhere/pid:[1]", "beat": time.time() - age}
        local_store.replace(path, json.dumps(elsewhere).encode())
        assert bool(live_pins(local_store)) == live
    # Neither what is no pin nor what is called otherwise counts.
    local_store.replace(path, b"{")
    local_store.replace("pins/mine.json", json.dumps(told).encode())
    assert live_pins(local_store) == []
    delete_stale_pins(local_store)
    assert set(local_store.list("pins")) == {path, "pins/mine.json"}


def test_a_holder_that_slept_too_long_is_told(local_store: Store) -> None:
    with pinned(local_store, "prepare") as hold:
        hold.require()
        hold.renewed -= pins.STALE_SECONDS
        with pytest.raises(InUseError, match="run again"):
            hold.require()
        hold.renew()
        hold.require()


def test_a_pin_is_renewed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    code = HOLDER.replace("import sys, time", "import sys, time, storage.pins as p")
    code = code.replace("store = ", "p.BEAT_SECONDS = 0.05\nstore = ")
    holder = python(code, store.url, "prepare", "1")
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    beats = set()
    for _ in range(10):
        beats.update(pin.beat for pin in live_pins(store))
        time.sleep(0.06)
    holder.communicate()
    assert len(beats) > 4


RACE = """
import json, random, sys, time
from storage.errors import InUseError
from storage.pins import pinned, sweeping
from storage.store import open_store
store, draw = open_store(sys.argv[1], create=False), random.Random(int(sys.argv[3]))
ended, spans = time.time() + 3, []
while time.time() < ended:
    try:
        with sweeping(store) if sys.argv[2] == "sweep" else pinned(store, "prepare"):
            began = time.time()
            time.sleep(draw.uniform(0, 0.02))
            spans.append((began, time.time()))
    except InUseError:
        pass
    time.sleep(draw.uniform(0, 0.06))
print(json.dumps(spans))
"""


def test_sweeps_and_preparations_never_overlap(local_store: Store) -> None:
    whats = ("prepare", "sweep", "sweep")
    racers = [python(RACE, local_store.url, what, str(n)) for n, what in enumerate(whats)]
    spans = []
    for racer, what in zip(racers, whats, strict=True):
        out, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors.decode()
        found = [(*span, what) for span in json.loads(out)]
        spans += found
    assert {what for *_, what in spans} == {"prepare", "sweep"}
    spans.sort()
    for (_, end, *_), (begin, *_) in zip(spans, spans[1:], strict=False):
        assert end <= begin
