"""The history of a training run, from the events that it told: every step and place counts once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Event = Mapping[str, Any]


class Step(NamedTuple):
    """What is known of one optimizer step."""

    loss: float | None
    """None: the step was left out, since something in it was not finite."""
    smoothed_loss: float | None
    learning_rates: Mapping[str, float]
    """By part."""
    grad_norm: float | None
    samples_per_second: float
    seconds: float
    """Wall time, waiting for data included."""
    wait_seconds: float
    """Of these, waiting for data."""


class Note(NamedTuple):
    """Something a person should read."""

    time: float | None
    """Seconds since 1970; None where nobody wrote it down."""
    text: str
    failed: bool
    """Whether the training ended by it."""


@dataclass(slots=True)
class Call:
    """One start of the training processes."""

    began: float
    last: float
    """When it told its last event."""
    step: int
    """Finished steps at its start."""
    resumed_from: str | None
    """The backup."""


@dataclass(slots=True)
class History:
    """A run as its events tell it so far; `add` takes the next one.

    A call that goes on from a backup trains the steps after it again. What the call before it told
    of those steps is forgotten.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    """What the newest call said at its start: device, total_steps, trained_parameters, num_rows."""
    steps: dict[int, Step] = field(default_factory=dict)
    validations: dict[int, Event] = field(default_factory=dict)
    """Step to loss, by_concept and by_quantile (from the least noise to the most)."""
    samples: set[int] = field(default_factory=set)
    """Steps at which images were drawn."""
    made: dict[str, set[int]] = field(default_factory=lambda: {"backup": set(), "save": set()})
    """Steps at which there was a backup, and at which the model was saved."""
    notes: list[Note] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    epochs: int = 0
    """Epochs that were begun."""

    def add(self, event: Event) -> None:
        """Takes over one event; names that it does not know mean nothing."""
        name = event["event"]
        if name == "start":
            self._start(event)
        elif name == "step":
            self.steps[event["step"]] = _step(event)
        elif name == "validation":
            self.validations[event["step"]] = event
        elif name == "sample":
            self.samples.add(event["step"])
        elif name in self.made:
            self.made[name].add(event["step"])
        elif name == "epoch":
            self.epochs = event["epoch"] + 1
        elif name in ("message", "failed"):
            text = event["text"] if name == "message" else event["error"]
            self.notes.append(Note(event.get("time"), text, name == "failed"))
        if self.calls and "time" in event:
            self.calls[-1].last = max(self.calls[-1].last, event["time"])

    @property
    def last_step(self) -> int:
        """The newest step; 0 before the first."""
        return max(self.steps, default=self.calls[-1].step if self.calls else 0)

    @property
    def seconds(self) -> float:
        """Wall time from the start of each call to its last event, all calls together."""
        return sum(call.last - call.began for call in self.calls)

    @property
    def resumed_at(self) -> list[int]:
        """The steps after which a backup was gone on from."""
        return sorted({call.step for call in self.calls if call.resumed_from})

    def _start(self, event: Event) -> None:
        done, time = event["step"], event.get("time", 0.0)
        for found in (self.steps, self.validations):
            for step in [step for step in found if step > done]:
                del found[step]
        for places in (self.samples, *self.made.values()):
            places -= {step for step in places if step > done}
        self.epochs = event["epoch"]
        self.facts = dict(event)
        self.calls.append(Call(time, time, done, event["resumed_from"]))


def read_history(events: Iterable[Event]) -> History:
    """The history that all events together tell."""
    history = History()
    for event in events:
        history.add(event)
    return history


def _step(event: Event) -> Step:
    return Step(
        event["loss"],
        event["smoothed_loss"],
        event["learning_rates"],
        event["grad_norm"],
        event["samples_per_second"],
        event["seconds"],
        event["data_wait_seconds"],
    )
