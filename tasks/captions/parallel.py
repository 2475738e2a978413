"""Parallel: how many requests at a time make a server fastest, found by trying."""

from dataclasses import dataclass

START, MOST = 2, 16
WORTH = 1.1
"""Twice as many requests must give so much more, or it stays as it was."""
LEAST_ANSWERS = 8
"""So many answers, or two per request at a time, tell how fast a server is."""


@dataclass(slots=True)
class Tuner:
    """The number of requests that one server gets at a time.

    It is doubled while that makes the server a tenth faster, and halved where the server says that
    it is busy. Servers do not tell how much they do at once, and a request that waits in their
    queue costs nothing but a place in it.
    """

    limit: int = START
    settled: bool = False
    """Whether there is nothing left to try."""
    fixed: bool = False
    """Whether a person has set the limit."""
    _best: tuple[float, int] = (0.0, START)
    """Answers per second, and the limit that gave them."""
    _count: int = 0
    _since: float | None = None

    @classmethod
    def of(cls, parallel: int | None) -> "Tuner":
        """For a limit that a person has set, or to be found."""
        return cls() if parallel is None else cls(limit=parallel, settled=True, fixed=True)

    def answered(self, now: float, *, full: bool) -> None:
        """An answer came at a moment; `full`: there was work for more requests than the limit."""
        if self.settled:
            return
        if not full:
            self._since = None  # what is told of a server that waits for work is not its speed
            return
        if self._since is None:
            self._since, self._count = now, 0
            return
        self._count += 1
        if self._count >= max(LEAST_ANSWERS, 2 * self.limit):
            self._judge(self._count / max(now - self._since, 1e-9))
            self._since, self._count = now, 0

    def busy(self) -> None:
        """The server refused a request because it had too many."""
        if self.fixed:
            return
        self.limit, self.settled = max(1, self.limit // 2), True

    def _judge(self, rate: float) -> None:
        if rate < self._best[0] * WORTH:
            self.limit, self.settled = self._best[1], True
            return
        self._best = rate, self.limit
        self.limit = min(2 * self.limit, MOST)
        self.settled = self.limit == self._best[1]
