"""What the training processes tell: events.jsonl (a line per event) and status.json (the present).

Rank 0 writes both; the runner and anybody else only read. Files, not pipes, so that no reader can
hold up or kill a training by going away.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.train.files import write_atomically

EVENTS_FILE = "events.jsonl"
STATUS_FILE = "status.json"
STATUS_SECONDS = 1.0
State = Literal["running", "done", "stopped", "interrupted", "failed"]
Event = dict[str, Any]


class EventLog:
    """Writes the events and the status of a workspace."""

    def __init__(self, workspace: Path, process: Mapping[str, Any]) -> None:
        """`process` (pid, create_time) goes into every status, as all facts told later do."""
        self._path = workspace / EVENTS_FILE
        self._workspace = workspace
        self._facts = dict(process)
        self._status_at = 0.0
        # A killed writer may have left half a line: ours must not be glued to it.
        if self._path.exists() and not self._path.read_bytes().endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")

    def event(self, name: str, **facts: Any) -> None:
        """Appends one event."""
        line = json.dumps({"event": name, "time": round(time.time(), 3), **facts})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def message(self, text: str) -> None:
        """Appends something a person should read."""
        self.event("message", text=text)

    def status(self, state: State, **facts: Any) -> None:
        """Writes the status; while running at most once a second."""
        self._facts |= facts
        now = time.monotonic()
        if state == "running" and now - self._status_at < STATUS_SECONDS:
            return
        self._status_at = now
        write_status(self._workspace, state, **self._facts)


@dataclass(slots=True)
class EventReader:
    """Reads the complete lines that were added since the last call."""

    path: Path
    offset: int = 0

    def read(self) -> list[Event]:
        """The new events; half a line at the end waits for its other half."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        events = (_parse(line) for line in whole.splitlines())
        return [event for event in events if event is not None]

    def skip(self) -> None:
        """Leaves out everything written so far."""
        self.offset = self.path.stat().st_size if self.path.exists() else 0


def write_status(workspace: Path, state: State, **facts: Any) -> None:
    """Replaces status.json."""
    content = {"state": state, "updated": round(time.time(), 3), **facts}
    write_atomically(workspace / STATUS_FILE, json.dumps(content, indent=2).encode())


def read_status(workspace: Path) -> dict[str, Any]:
    """The content of status.json, {} when there is none."""
    path = workspace / STATUS_FILE
    if not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def loss_history(workspace: Path) -> dict[int, float]:
    """Step to loss over all calls of a run; steps trained again after a crash count once.

    Steps that were left out, since they were not finite, have none.
    """
    losses: dict[int, float] = {}
    for event in EventReader(workspace / EVENTS_FILE).read():
        if event["event"] == "start":
            losses = {step: loss for step, loss in losses.items() if step <= event["step"]}
        elif event["event"] == "step" and event["loss"] is not None:
            losses[event["step"]] = event["loss"]
    return losses


def _parse(line: bytes) -> Event | None:
    """An event, or None for what a killed writer left of one."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
