"""Kill -9 at ten random steps: nothing older than the last backup is lost, and nothing changes.

The killed processes are forks of this one, which has loaded everything: a start costs no imports.
`tests/faults/test_kill_training.py` kills the real command and its ranks.
"""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from threading import Event

import pytest

from tasks.train.backup import newest_backup, read_facts
from tasks.train.child import train_rank
from tasks.train.events import loss_history, read_status
from tests.tasks.train.comparing import assert_equal_backups

EVERY, LAST = 3, 60
SETTINGS = {
    "max_steps": LAST,
    "backup": {"every": EVERY, "keep": 2},
    "ema": {"kind": "cpu", "update_every": 2},
    "gradient_accumulation_steps": 2,
    "caption_dropout": 0.3,
}


@pytest.mark.timeout(240)
def test_ten_kills_lose_nothing_older_than_the_last_backup(bench):
    draw = random.Random(7)
    whole, killed = bench.spec("whole", **SETTINGS), bench.spec("killed", **SETTINGS)
    assert bench.train(whole) == "done"
    context = multiprocessing.get_context("fork")
    for _ in range(10):
        backup = newest_backup(killed.backups)
        begun = read_facts(backup)["step"] if backup else 0
        target = min(begun + draw.randint(1, 2 * EVERY), LAST - 2)
        spec = replace(killed, resume_from=backup)
        process = context.Process(target=train_rank, args=(spec, Event()))
        process.start()
        while max(loss_history(spec.workspace), default=0) < target:
            assert process.is_alive()
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        done = max(loss_history(spec.workspace))
        newest = newest_backup(killed.backups)
        # The one of the step that it was killed in may not have been there yet.
        assert (read_facts(newest)["step"] if newest else 0) >= (done - 1) // EVERY * EVERY
    final = replace(killed, resume_from=newest_backup(killed.backups))
    assert bench.train(final) == "done"
    assert read_status(killed.workspace)["step"] == LAST
    assert_equal_backups(newest_backup(whole.backups), newest_backup(killed.backups))
    assert loss_history(whole.workspace) == loss_history(killed.workspace)
