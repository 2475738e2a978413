"""Pins: small files that say who relies on a store just now, so that deleting waits its turn.

A preparation decides by what is there what it need not make; a sweep deletes what nobody names.
Each writes its pin first and looks for pins of the other kind second, so of two that begin at the
same time at least one sees the other: a sweep that sees a preparation gives up, a preparation that
sees a sweep waits until it is over. A training pins its version only, and a sweep keeps that.

A pin is renewed while its holder lives. One that was not for STALE_SECONDS, or whose process is
known to be gone, counts as none; so the clocks of the machines must agree within minutes, as S3
asks for anyway.
"""

import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from storage.errors import InUseError, NotFoundError, StorageError
from storage.naming import new_name
from storage.store import Store
from storage.versions import get_version

BEAT_SECONDS = 60.0
STALE_SECONDS = 1800.0
_WAIT_SECONDS = 0.5
_FOLDER = "pins"
_NAME = re.compile(r"pins/[0-9a-f]{32}\.json")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Who relies on a store; times are seconds since 1970."""

    what: Literal["prepare", "train", "sweep"]
    dataset: str | None
    version: int | None
    """What a training reads."""
    place: str
    """Host and process namespace: where `pid` means something."""
    pid: int
    started: float
    """Of the process."""
    since: float
    beat: float

    def told(self) -> str:
        """Who it is, for people."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.what} on {self.place.partition('/')[0]} (process {self.pid}, since {since})"


@dataclass(slots=True)
class Hold:
    """A pin that this process holds."""

    store: Store
    path: str
    pin: Pin
    renewed: float = field(default_factory=time.time)

    def renew(self) -> None:
        """Says that the holder lives."""
        now = time.time()
        self.store.replace(self.path, json.dumps(asdict(self.pin) | {"beat": now}).encode())
        self.renewed = now

    def require(self) -> None:
        """Makes sure that others still see the pin; to be called before what relies on it.

        Raises:
            InUseError: it could not be renewed for so long that others may have passed over it.
        """
        if time.time() - self.renewed > STALE_SECONDS / 2:
            raise InUseError(
                f"{self.store.uri(self.path)} was not renewed for "
                f"{time.time() - self.renewed:.0f} s (did the machine sleep, or was the store "
                "away?), so garbage collection may have gone ahead meanwhile: run again"
            )


@contextmanager
def pinned(
    store: Store,
    what: Literal["prepare", "train"],
    dataset: str | None = None,
    version: int | None = None,
) -> Iterator[Hold]:
    """Keeps sweeps away while the context lasts; waits for one that is under way.

    Args:
        store: the store.
        what: a preparation stops every sweep; a training keeps its version alone.
        dataset: the name of the training's dataset.
        version: its number; it must still be there when the waiting is over.

    Raises:
        NotFoundError: the version has been collected.
    """
    with _held(store, what, dataset, version) as hold:
        told = False
        while sweeps := [pin for pin in live_pins(store) if pin.what == "sweep"]:
            if not told:
                _LOG.warning("waiting for garbage collection to end: %s", sweeps[0].told())
            told = True
            time.sleep(_WAIT_SECONDS)
        if dataset is not None and version is not None:
            get_version(store, dataset, version)
        yield hold


@contextmanager
def sweeping(store: Store) -> Iterator[Hold]:
    """Keeps preparations waiting while the context lasts.

    Raises:
        InUseError: a preparation or another sweep is at work.
    """
    with _held(store, "sweep", None, None) as hold:
        others = [pin for pin in live_pins(store, hold.path) if pin.what != "train"]
        if others:
            raise InUseError(
                f"{store.url} is in use: {', '.join(pin.told() for pin in others)}. Nothing was "
                "deleted; run again later. The pin of a process that was killed on another "
                f"machine counts for {STALE_SECONDS / 60:.0f} minutes"
            )
        yield hold


def live_pins(store: Store, own: str = "") -> list[Pin]:
    """The pins of holders that are not known to be gone, but for the one at `own`."""
    found = (_read(store, path) for path in _paths(store) if path != own)
    return [pin for pin in found if pin is not None and _is_live(pin)]


def delete_stale_pins(store: Store) -> None:
    """Deletes the pins of holders that are gone; one that lives after all writes its anew."""
    for path in _paths(store):
        pin = _read(store, path)
        if pin is not None and not _is_live(pin):
            store.delete(path)


@contextmanager
def _held(
    store: Store,
    what: Literal["prepare", "train", "sweep"],
    dataset: str | None,
    version: int | None,
) -> Iterator[Hold]:
    now = time.time()
    pin = Pin(
        what=what,
        dataset=dataset,
        version=version,
        place=_here(),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        since=now,
        beat=now,
    )
    hold, ended = Hold(store, f"{_FOLDER}/{new_name()}.json", pin), threading.Event()
    hold.renew()
    beating = threading.Thread(target=_beat, args=(hold, ended), name="pin", daemon=True)
    beating.start()
    try:
        yield hold
    finally:
        ended.set()
        beating.join()
        try:
            store.delete(hold.path)
        except (StorageError, OSError) as error:
            _LOG.warning("the pin %s could not be taken back: %s", hold.path, error)


def _beat(hold: Hold, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        try:
            hold.renew()
        except (StorageError, OSError) as error:
            _LOG.warning("the pin %s could not be renewed: %s", hold.path, error)


def _paths(store: Store) -> list[str]:
    return [path for path in store.list(_FOLDER) if _NAME.fullmatch(path)]


def _read(store: Store, path: str) -> Pin | None:
    """A pin, or None where it has just been taken back or is none of ours."""
    with suppress(NotFoundError, ValueError, TypeError):
        return Pin(**json.loads(store.read_bytes(path)))
    return None


def _is_live(pin: Pin) -> bool:
    if time.time() - pin.beat > STALE_SECONDS:
        return False
    if pin.place != _here():
        return True
    try:
        return abs(psutil.Process(pin.pid).create_time() - pin.started) < 1
    except psutil.NoSuchProcess:
        return False


def _here() -> str:
    """Names this host and its process namespace: containers may share the one, not the other."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{namespace.readlink() if namespace.is_symlink() else ''}"
