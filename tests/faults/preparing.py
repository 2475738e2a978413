"""Preparations in processes that start in milliseconds, because they are forked from warm imports.

`Preparing.start` forks from a server process that has imported torch and diffusers but used
neither, so every preparation is a process of its own that can be killed as a whole.
"""

import logging
import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import diffusers.models.autoencoders.autoencoder_kl  # noqa: F401
import torch  # noqa: F401
import transformers.models.clip.modeling_clip
import transformers.models.clip.tokenization_clip  # noqa: F401

from tasks.progress import LOGGER_NAME
from tests.projects import Project

FLUSH_SECONDS = 0.2


@dataclass(frozen=True)
class Preparing:
    """A project, and a store of its own for one preparation that may be killed."""

    project: Project
    store: Path
    more: tuple[str, ...] = ()

    @property
    def told(self) -> Path:
        """What the preparations of this store said of their progress."""
        return self.store.with_suffix(".progress")

    @property
    def overrides(self) -> tuple[str, ...]:
        store = (f"store.url={str(self.store)!r}", f"store.flush_seconds={FLUSH_SECONDS}")
        return (*store, *self.more)

    def start(self) -> BaseProcess:
        """Starts a preparation as a process."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        process = context.Process(target=_prepare, args=(self,))
        process.start()
        return process

    def finish(self) -> float:
        """Runs a preparation to its end; gives the seconds it took."""
        started = time.monotonic()
        process = self.start()
        process.join(120)
        assert process.exitcode == 0
        return time.monotonic() - started

    def kill_after(self, seconds: float) -> float:
        """Starts a preparation and kills it; gives the moment on the monotonic clock."""
        process = self.start()
        process.join(seconds)
        return self.kill(process)

    def kill(self, process: BaseProcess) -> float:
        """Kills a preparation; gives the moment on the monotonic clock."""
        killed_at = time.monotonic()
        process.kill()
        process.join()
        return killed_at

    def done_before(self, moment: float) -> dict[str, int]:
        """How many items of each stage were told to be done by then."""
        done: dict[str, int] = {}
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        for line in lines:
            told_at, stage, count = line.split()
            if float(told_at) <= moment:
                done[stage] = int(count)
        return done


def _prepare(preparing: Preparing) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU's batches are not equal bit by bit
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    with preparing.told.open("a", buffering=1) as told:
        logger.addHandler(_Teller(told))
        preparing.project.prepare(*preparing.overrides)


class _Teller(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes the progress of every stage down, with the time."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{time.monotonic()} {record.__dict__['stage']} {record.__dict__['done']}"
