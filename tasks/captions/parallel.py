"""Parallel: how many requests at a time make a server fastest, found by trying."""

from dataclasses import dataclass

FIRST, MOST = 4, 16
WORTH = 1.1
"""Twice as many requests must give so much more, or it stays as it was."""
LEAST_ANSWERS = 8
"""So many answers, or two per request at a time, tell how fast a server is."""
LEAST_PATIENCE = 2.0
"""A request that waits its turn in a server must be answered in half of the time it may take."""


@dataclass(slots=True)
class Tuner:
    """The number of requests that one server gets at a time.

    Servers do not tell how much they do at once, and a request that waits in their queue costs
    nothing but its time-out. The first question is asked alone, since it may load the model; the
    second one tells how long an answer takes. From then on the number is doubled while that makes
    the server a tenth faster and no request could wait for too long. It is halved where the server
    says that it is busy.
    """

    timeout_seconds: float
    limit: int = 1
    settled: bool = False
    """Whether there is nothing left to try."""
    fixed: bool = False
    """Whether a person has set the limit."""
    _warm: bool = False
    _alone_seconds: float | None = None
    """What an answer takes that waits for no other."""
    _best: tuple[float, int] = (0.0, FIRST)
    """Answers per second, and the limit that gave them."""
    _count: int = 0
    _since: float | None = None

    @classmethod
    def of(cls, parallel: int | None, timeout_seconds: float) -> "Tuner":
        """For a limit that a person has set, or to be found."""
        if parallel is None:
            return cls(timeout_seconds)
        return cls(timeout_seconds, limit=parallel, settled=True, fixed=True)

    def answered(self, now: float, seconds: float, *, full: bool) -> None:
        """An answer came.

        Args:
            now: the moment.
            seconds: that it took.
            full: whether there was work for as many requests as the limit allows.
        """
        if self.settled:
            return
        if self._alone_seconds is None:
            if self._warm:
                self._alone_seconds = seconds
                self._raise_to(FIRST)
            self._warm = True
        elif not full:
            self._since = None  # what is told of a server that waits for work is not its speed
        elif self._since is None:
            self._since, self._count = now, 0
        else:
            self._count += 1
            if self._count >= max(LEAST_ANSWERS, 2 * self.limit):
                self._judge(self._count / max(now - self._since, 1e-9))
                self._since, self._count = now, 0

    def busy(self) -> None:
        """The server refused a request because it had too many."""
        if not self.fixed:
            self.limit, self.settled = max(1, self.limit // 2), True

    def _judge(self, rate: float) -> None:
        if rate < self._best[0] * WORTH:
            self.limit, self.settled = self._best[1], True
            return
        self._best = rate, self.limit
        self._raise_to(2 * self.limit)

    def _raise_to(self, wanted: int) -> None:
        alone = max(self._alone_seconds or 0.0, 1e-9)
        bearable = int(min(MOST, self.timeout_seconds / LEAST_PATIENCE / alone))
        limit = max(self.limit, min(wanted, bearable))
        self.settled = limit == self.limit
        self.limit = limit
