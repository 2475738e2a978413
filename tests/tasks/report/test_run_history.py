"""The history of a run: what its events tell, with resumed steps once."""

import json
from pathlib import Path

from tasks.report.run_history import read_history
from tasks.train.events import EVENTS_FILE, loss_history
from tests.tasks.report.runs import start, step, trained, validation


def test_steps_trained_again_count_once_and_as_last_trained(tmp_path: Path) -> None:
    events = [
        start(0, 100.0),
        *(step(number, 100.0 + number, 0.1 * number) for number in range(1, 8)),
        {"event": "backup", "time": 104.0, "step": 4},
        {"event": "backup", "time": 106.0, "step": 6},
        {"event": "sample", "time": 106.0, "step": 6},
        validation(6, 106.0, 1.0),
        {"event": "message", "text": "the backup of step 6 is damaged"},
        start(4, 200.0, "backups/00000004"),
        step(5, 203.0, 7.0),
        step(6, 204.0, None),
    ]
    history = read_history(events)
    losses = {number: found.loss for number, found in history.steps.items()}
    assert losses == {1: 0.1, 2: 0.2, 3: 0.1 * 3, 4: 0.4, 5: 7.0, 6: None}
    assert (history.validations, history.samples) == ({}, set())
    assert history.made == {"backup": {4}, "save": set()}
    assert history.resumed_at == [4]
    assert history.last_step == 6
    assert history.seconds == (107.0 - 100.0) + (204.0 - 200.0)
    assert [note.text for note in history.notes] == ["the backup of step 6 is damaged"]
    # The summary of a training counts the same way.
    lines = (json.dumps(event) for event in events)
    (tmp_path / EVENTS_FILE).write_text("".join(f"{line}\n" for line in lines))
    finite = {number: loss for number, loss in losses.items() if loss is not None}
    assert loss_history(tmp_path) == finite


def test_a_run_that_did_nothing_yet_has_an_empty_history() -> None:
    history = read_history([])
    assert (history.last_step, history.seconds, history.resumed_at) == (0, 0, [])
    assert read_history([start(30, 5.0, "b")]).last_step == 30


def test_why_a_run_failed_is_a_note() -> None:
    history = read_history([*trained(3), {"event": "failed", "time": 9.0, "error": "no memory"}])
    assert [(note.text, note.failed) for note in history.notes] == [("no memory", True)]
