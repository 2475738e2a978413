"""Lane: one caption server as a pool sees it: whether to ask it, and when to leave it alone."""

from dataclasses import dataclass

from tasks.captions.client import BUSY, CallError
from tasks.captions.parallel import Tuner

MOST_PAUSE_SECONDS = 30.0
MOST_WAIT_SECONDS = 120.0
"""A server that asks for more patience than this gets this."""
BROKEN_AFTER = 32
"""So many pauses without an answer between them, and a server that answers with errors is lost."""
_BUSY_KINDS = tuple(f"busy ({status})" for status in BUSY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How patient a pool is."""

    timeout_seconds: float
    max_retries: int
    parallel: int | None = None
    """Requests at a time per server; None: found by trying."""
    backoff_seconds: float = 1.0
    """Before the first retry; then twice as long each time."""

    def pause_seconds(self, number: int) -> float:
        """How long to wait before the retry of this number, from 1."""
        return min(MOST_PAUSE_SECONDS, self.backoff_seconds * 2.0 ** (number - 1))


@dataclass(slots=True)
class Lane:
    """What is known of one server."""

    url: str
    tuner: Tuner
    threads: int = 0
    active: int = 0
    """Requests that are under way."""
    pauses: int = 0
    """Since its last answer."""
    paused_until: float = 0.0
    busy_at: float = 0.0
    """When it last had too many requests; answers to earlier ones do not end its pause."""
    lost: bool = False
    """Left alone for so long that nobody counts on it; it is still tried now and then."""
    closed: bool = False
    """Never asked again."""
    usual_seconds: float | None = None
    last_error: str = ""

    def is_free(self, now: float) -> bool:
        """Whether it may be asked now; after a pause, one question shows whether it is back."""
        limit = 1 if self.pauses else self.tuner.limit
        return not self.closed and now >= self.paused_until and self.active < limit

    @property
    def is_well(self) -> bool:
        """Whether its last question was answered."""
        return not (self.pauses or self.closed)

    @property
    def lives(self) -> bool:
        """Whether anybody counts on it."""
        return not (self.lost or self.closed)

    def answered(self, started: float, now: float) -> None:
        """It answered a question that was asked at `started`; `active` still counts that one."""
        seconds = now - started
        self.tuner.answered(now, seconds, full=self.active >= self.tuner.limit)
        if started >= self.busy_at:
            self.pauses, self.lost, self.paused_until = 0, False, 0.0
        usual = self.usual_seconds
        self.usual_seconds = seconds if usual is None else 0.8 * usual + 0.2 * seconds

    def failed(self, error: CallError, started: float, now: float, rules: Rules) -> None:
        """It failed: it is paused or closed; of questions asked side by side, one counts."""
        self.last_error = f"{self.url}: {error}"
        self.closed = self.closed or error.forever
        if not error.retry or started < max(self.paused_until, self.busy_at):
            return
        if error.kind in _BUSY_KINDS:
            self.tuner.busy()
            self.busy_at = now
        self.pauses += 1
        pause = rules.pause_seconds(self.pauses) if error.away else rules.backoff_seconds
        self.paused_until = now + max(pause, asked_wait(error))
        patience = rules.max_retries + 1 if error.away else BROKEN_AFTER
        self.lost = self.lost or self.pauses >= patience


def asked_wait(error: CallError) -> float:
    """The seconds that a server asked to wait, within reason."""
    return min(error.retry_after or 0.0, MOST_WAIT_SECONDS)
