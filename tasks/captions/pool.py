"""Pool: questions answered by several servers at once, none of which has to stay alive.

All servers take from one queue, so a fast one answers more. A server that does not answer is
paused, longer each time, and tried again with one question; what it held goes back into the queue.
At the end, an idle server also takes what another one has had for unusually long. When none of them
answers any more, everything that is left fails at once instead of waiting for ever.

Each request runs on a thread of its own. The threads are daemons: a process that is asked to stop
leaves them behind, whatever server they wait for.
"""

import heapq
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tasks.captions.client import CallError, Server
from tasks.captions.lane import Lane, Rules, asked_wait
from tasks.captions.parallel import Tuner
from tasks.captions.protocols.base import Answer, Question

TICK_SECONDS = 0.2
STEAL_FACTOR, STEAL_SECONDS = 4.0, 2.0
"""A question is taken over after so many times the usual seconds, plus this."""
Ask = Callable[[Server, Question, float], Answer]


@dataclass(slots=True)
class Job:
    """One question, and whatever its answer is for."""

    subject: Any
    question: Question
    attempts: int = 0
    copies: int = 0
    """Servers that are at it now."""
    over: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one question ended: with an answer, or with the kind of the last failure."""

    subject: Any
    question: Question | None = None
    answer: Answer | None = None
    url: str = ""
    seconds: float = 0.0
    attempts: int = 0
    kind: str = ""
    message: str = ""


@dataclass(slots=True)
class _Run:
    """One request that is under way."""

    job: Job
    lane: Lane
    started: float
    is_probe: bool
    """Asked to see whether a paused server is back."""


class Pool:
    """Asks many questions; use it as a context, `put` jobs from any thread, read `outcomes`."""

    def __init__(self, urls: Sequence[str], ask: Ask, rules: Rules, *, room: int = 32) -> None:
        self._ask, self._rules, self._room = ask, rules, room
        self._lanes = [Lane(url, Tuner.of(rules.parallel, rules.timeout_seconds)) for url in urls]
        self._waiting: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._runs: list[_Run] = []
        self._results: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._open, self._stopped = 0, False
        self._fed = False
        self._numbers = iter(range(1 << 62))
        self._chance = random.Random()

    def __enter__(self) -> Self:
        for lane in self._lanes:
            self._staff(lane)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def put(self, subject: Any, question: Question) -> bool:
        """Adds a question, and waits while there are many; False once the pool was stopped."""
        with self._changed:
            while len(self._waiting) >= self._room and not self._stopped and self._lives():
                self._changed.wait(TICK_SECONDS)
            if self._stopped:
                return False
            self._open += 1
            self._waiting.append(Job(subject, question))
            self._give_up_if_lost()
            self._changed.notify_all()
            return True

    def drop(self, subject: Any, kind: str, message: str) -> None:
        """Tells of a subject about which nothing can be asked."""
        self._results.put(Outcome(subject, kind=kind, message=message))

    def end(self, error: BaseException | None = None) -> None:
        """Says that nothing more will be put, or why feeding failed."""
        if error is not None:
            self._results.put(error)
        with self._changed:
            self._fed = True
            self._changed.notify_all()

    def outcomes(self) -> Iterator[Outcome | None]:
        """How the questions ended, as they do; None at least every TICK_SECONDS.

        Raises:
            BaseException: what broke a thread of the pool or the feeding.
        """
        while not self._is_over():
            try:
                outcome = self._results.get(timeout=TICK_SECONDS)
            except queue.Empty:
                yield None
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

    def _is_over(self) -> bool:
        with self._changed:
            return self._fed and not self._open and self._results.empty()

    def _staff(self, lane: Lane) -> None:
        """Starts the threads that a server's limit asks for."""
        while lane.threads < lane.tuner.limit:
            lane.threads += 1
            threading.Thread(target=self._serve, args=(lane,), daemon=True).start()

    def _serve(self, lane: Lane) -> None:
        """One thread: takes questions for its server until the pool is stopped."""
        server = Server(lane.url)
        while (run := self._take(lane)) is not None:
            try:
                answer = self._ask(server, run.job.question, self._rules.timeout_seconds)
            except CallError as error:
                self._failed(run, error)
            except BaseException as error:  # must not leave the others waiting
                self._results.put(error)
                return
            else:
                self._answered(run, answer)

    def _take(self, lane: Lane) -> _Run | None:
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    self._waiting.append(heapq.heappop(self._later)[2])
                if lane.is_free(now) and (job := self._next(lane, now)) is not None:
                    run = _Run(job, lane, now, is_probe=lane.pauses > 0)
                    job.copies += 1
                    lane.active += 1
                    self._runs.append(run)
                    self._changed.notify_all()
                    return run
                self._changed.wait(TICK_SECONDS)
            return None

    def _next(self, lane: Lane, now: float) -> Job | None:
        if self._waiting:
            return self._waiting.popleft()
        if lane.pauses or lane.usual_seconds is None:
            return None
        patience = STEAL_FACTOR * lane.usual_seconds + STEAL_SECONDS
        for run in self._runs:
            job = run.job
            alone = run.lane is not lane and job.copies == 1 and not job.over
            if alone and now - run.started > patience:
                return job
        return None

    def _answered(self, run: _Run, answer: Answer) -> None:
        with self._changed:
            now, lane = time.monotonic(), run.lane
            lane.answered(run.started, now)
            self._release(run)
            self._staff(lane)
            job, seconds = run.job, now - run.started
            if not job.over:
                told = (job.subject, job.question, answer, lane.url, seconds, job.attempts + 1)
                self._finish(job, Outcome(*told))
            self._changed.notify_all()

    def _failed(self, run: _Run, error: CallError) -> None:
        with self._changed:
            job = run.job
            self._release(run)
            run.lane.failed(error, run.started, time.monotonic(), self._rules)
            if not job.over and not job.copies:
                # Looking whether a server is back costs a question none of its retries, as long as
                # another server is there to answer it.
                well = any(lane.is_well for lane in self._lanes)
                free = error.forever or (error.retry and run.is_probe and well)
                job.attempts += not free
                if free:
                    self._waiting.appendleft(job)
                elif error.retry and job.attempts <= self._rules.max_retries:
                    self._later_again(job, error)
                else:
                    self._fail(job, error.kind, f"{run.lane.url}: {error}")
            self._give_up_if_lost()
            self._changed.notify_all()

    def _later_again(self, job: Job, error: CallError) -> None:
        wait = self._rules.pause_seconds(job.attempts) * self._chance.uniform(0.5, 1.0)
        moment = time.monotonic() + max(wait, asked_wait(error))
        heapq.heappush(self._later, (moment, next(self._numbers), job))

    def _lives(self) -> bool:
        return any(lane.lives for lane in self._lanes)

    def _give_up_if_lost(self) -> None:
        """When no server is left, everything that waits fails; what runs may still be answered."""
        if self._lives():
            return
        told = "; ".join(lane.last_error for lane in self._lanes)
        left = [*self._waiting, *(job for _, _, job in self._later)]
        self._waiting.clear()
        self._later.clear()
        for job in left:
            self._fail(job, "no server answers", told)

    def _release(self, run: _Run) -> None:
        self._runs.remove(run)
        run.lane.active -= 1
        run.job.copies -= 1

    def _fail(self, job: Job, kind: str, message: str) -> None:
        attempts = job.attempts
        self._finish(job, Outcome(job.subject, attempts=attempts, kind=kind, message=message))

    def _finish(self, job: Job, outcome: Outcome) -> None:
        job.over = True
        self._open -= 1
        self._results.put(outcome)
