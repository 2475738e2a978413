"""Several servers share questions; whatever befalls them, each question ends in one outcome."""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import tasks.captions.pool
from tasks.captions.client import Server
from tasks.captions.lane import Rules
from tasks.captions.pool import Outcome, Pool
from tasks.captions.protocols.base import Answer, Question
from tasks.captions.protocols.ollama import OLLAMA
from tests.caption_server import DIGEST, CaptionServer, Fault
from tests.captioning import says_which

TIMEOUT = 0.3
SLACK_SECONDS = 20.0
KINDS = {
    *("connection lost", "garbage", "half an answer", "error amid the answer", "time-out"),
    *("busy (503)", "server error (500)", "refused (400)", "no server answers", "unreachable"),
}


def question(number: int) -> Question:
    return Question(
        model="tiny",
        system_prompt="",
        user_prompt="What?",
        jpeg=f"picture {number}".encode(),
        max_tokens=9,
        temperature=0.0,
    )


def sha(number: int) -> str:
    return hashlib.sha256(question(number).jpeg).hexdigest()


def said_of(number: int) -> str:
    return says_which(question(number).jpeg, question(number).user_prompt)


Serve = Callable[..., CaptionServer]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are far shorter here than they are in earnest; so is what they are rounded up to."""
    monkeypatch.setattr(tasks.captions.pool, "TICK_SECONDS", 0.02)


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[CaptionServer] = []

    def start(script: Any = (), **options: Any) -> CaptionServer:
        options = {"answer": says_which} | options
        servers.append(CaptionServer({"tiny:latest": DIGEST}, script, **options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def pool_of(*servers: CaptionServer, room: int = 32, **rules: Any) -> Pool:
    defaults = {"timeout_seconds": TIMEOUT, "max_retries": 3, "backoff_seconds": 0.02}
    urls = [server.url for server in servers]
    return Pool(urls, OLLAMA.ask, Rules(**(defaults | rules)), room=room)


def feeding(pool: Pool, count: int) -> threading.Thread:
    def feed() -> None:
        for number in range(count):
            if not pool.put(number, question(number)):
                return
        pool.end()

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    return thread


def ask_all(pool: Pool, count: int) -> list[Outcome]:
    """The outcomes of so many questions; their subjects are their numbers."""
    with pool:
        feeding(pool, count)
        found = [outcome for outcome in pool.outcomes() if outcome is not None]
    subjects = [outcome.subject for outcome in found]
    assert sorted(subjects) == list(range(count)), "one outcome for each question"
    for outcome in found:
        if outcome.answer is not None:
            assert (outcome.kind, outcome.message) == ("", "")
            assert outcome.question == question(outcome.subject)
            assert outcome.answer == Answer(said_of(outcome.subject), "stop")
            assert outcome.attempts >= 1
            assert outcome.seconds > 0
    return found


def by_server(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(outcome.url for outcome in outcomes)


STORM = [
    *[Fault.ok()] * 14,
    *(Fault.delay(0.05), Fault.delay(0.01)),
    *(Fault.drop(), Fault.reset(), Fault.garbage(), Fault.half_stream()),
    *(Fault.half_stream(clean=True), Fault.mid_stream_error(), Fault.status(503)),
    *(Fault.status(500), Fault.status(400), Fault.status(503, retry_after=0.05)),
    *(Fault.hang(), Fault.hang_mid_stream(), Fault.dribble(0.01)),
]


@pytest.mark.parametrize("seed", range(5))
def test_every_question_ends_once_in_any_storm(serve: Serve, seed: int) -> None:
    chance = random.Random(seed)
    faults = [chance.choice(STORM) for _ in range(2000)]
    servers = [
        serve(lambda number, _, at=at: faults[(at * 700 + number) % len(faults)], seconds=0.002)
        for at in range(chance.choice([2, 3]))
    ]
    retries = chance.randrange(4)
    pool = pool_of(*servers, parallel=chance.choice([1, 2, 3, 4]), max_retries=retries)
    started = time.monotonic()
    outcomes = ask_all(pool, 60)
    assert time.monotonic() - started < 60 * (retries + 1) * TIMEOUT + SLACK_SECONDS
    assert {one.kind for one in outcomes if one.answer is None} <= KINDS
    for outcome in outcomes:
        if outcome.answer is None and outcome.kind != "no server answers":
            assert 1 <= outcome.attempts <= retries + 1
            assert outcome.attempts == retries + 1 or outcome.kind == "refused (400)"
    if not any(one.kind == "no server answers" for one in outcomes):
        assert sum(one.answer is not None for one in outcomes) > 15
    for server in servers:
        server.errors.clear()


@pytest.mark.parametrize("parallel", [1, 2, 3, 4, None])
def test_without_faults_each_question_is_asked_once(serve: Serve, parallel: int | None) -> None:
    servers = [serve(seconds=0.005), serve(seconds=0.005)]
    outcomes = ask_all(pool_of(*servers, parallel=parallel, timeout_seconds=20), 80)
    assert all(one.answer is not None and one.attempts == 1 for one in outcomes)
    asked = [one.images[0] for server in servers for one in server.asked()]
    assert sorted(asked) == sorted(sha(number) for number in range(80))
    for server in servers:
        assert server.most_at_once <= (parallel or 16)
        assert by_server(outcomes)[server.url] == len(server.asked()) > 0


@pytest.mark.parametrize(
    ("retries", "kind", "attempts"), [(2, "", 3), (1, "server error (500)", 2)]
)
def test_a_question_is_asked_as_often_as_allowed(
    serve: Serve, retries: int, kind: str, attempts: int
) -> None:
    server = serve({sha(3): [Fault.status(500, "no memory")] * 2})
    outcomes = ask_all(pool_of(server, max_retries=retries, parallel=1), 6)
    (slow,) = [one for one in outcomes if one.subject == 3]
    assert (slow.kind, slow.attempts) == (kind, attempts)
    assert {one.attempts for one in outcomes if one.subject != 3} == {1}
    if kind:
        assert slow.message == f"{server.url}: no memory"
    assert len(server.asked()) == 6 + attempts - 1


@pytest.mark.parametrize(
    ("fault", "least"),
    # After an error: the pause of the server, or half of the question's own, which doubles.
    [(Fault.status(503), (0.1, 0.1, 0.2)), (Fault.drop(), (0.1, 0.2, 0.4))],
)
def test_it_waits_longer_each_time(serve: Serve, fault: Fault, least: tuple[float, ...]) -> None:
    server = serve([fault] * 3)
    (outcome,) = ask_all(pool_of(server, backoff_seconds=0.1, max_retries=3), 1)
    times = [one.at for one in server.asked()]
    waits = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert outcome.attempts == 4
    assert all(wait >= one for wait, one in zip(waits, least, strict=True)), waits


def test_a_server_is_given_the_time_it_asks_for(serve: Serve) -> None:
    server = serve([Fault.status(503, retry_after=0.7)])
    outcomes = ask_all(pool_of(server, parallel=1), 4)
    first, second, *_ = server.asked()
    assert second.at - first.at >= 0.7
    assert all(one.answer is not None for one in outcomes)


def test_failures_side_by_side_are_one_failure_of_the_server(serve: Serve) -> None:
    """Four connections that break at once must not use up the patience with a server."""
    together = replace(Fault.drop(), seconds=0.5)
    server = serve(lambda number, _: together if number < 4 else Fault.ok())
    outcomes = ask_all(pool_of(server, parallel=4, max_retries=1, timeout_seconds=20), 8)
    assert all(one.answer is not None for one in outcomes)


def test_a_faster_server_does_more(serve: Serve) -> None:
    fast, slow = serve(seconds=0.005), serve(seconds=0.2)
    counts = by_server(ask_all(pool_of(fast, slow, parallel=2, timeout_seconds=20), 80))
    assert counts[fast.url] > 2 * counts[slow.url] > 0


def test_the_limit_of_a_person_is_kept(serve: Serve) -> None:
    server = serve([Fault.status(503)], seconds=0.02)

    def forget(number: int, _: str) -> Fault:
        if number == 0:
            return Fault.status(503)
        if number == 8:
            server.most_at_once = 0
        return Fault.ok()

    server.script = forget
    ask_all(pool_of(server, parallel=4, timeout_seconds=20), 40)
    assert server.most_at_once == 4


def test_a_busy_server_gets_less_at_a_time_but_not_one_by_one(serve: Serve) -> None:
    """A burst of refusals halves the number once, however many requests it refuses."""
    server = serve(seconds=0.02, parallel=16)
    refused: list[float] = []
    later: list[int] = []

    def busy_once(number: int, _: str) -> Fault:
        now = time.monotonic()
        if server.open > 6 and not refused or refused and now < refused[0] + 0.1:
            refused.append(now)
            return Fault.status(503)
        if refused:
            later.append(server.open + 1)
        return Fault.ok()

    server.script = busy_once
    pool = pool_of(server, timeout_seconds=20, max_retries=9, backoff_seconds=0.3)
    outcomes = ask_all(pool, 200)
    assert all(one.answer is not None for one in outcomes)
    # On a busy machine so many may never be worth while.
    assert not refused or 2 < max(later) <= 4


def test_the_questions_of_a_dead_server_go_to_the_other(serve: Serve) -> None:
    dead, alive = serve(), serve(seconds=0.01)
    dead.stop()
    outcomes = ask_all(pool_of(dead, alive, max_retries=1, timeout_seconds=20), 40)
    assert by_server(outcomes) == {alive.url: 40}
    assert {one.attempts for one in outcomes} <= {1, 2}


def test_looking_whether_a_server_is_back_costs_no_question_its_retries(serve: Serve) -> None:
    broken, alive = serve(Fault.drop()), serve(seconds=0.03)
    pool = pool_of(
        broken, alive, max_retries=0, parallel=1, backoff_seconds=0.01, timeout_seconds=20
    )
    outcomes = ask_all(pool, 40)
    assert len(broken.asked()) > 2
    failed = [one for one in outcomes if one.answer is None]
    assert [one.kind for one in failed] == ["connection lost"], "the first one alone"
    assert {one.attempts for one in outcomes} == {1}


def test_a_server_that_comes_back_is_used_again(serve: Serve) -> None:
    away, alive = serve(seconds=0.01), serve(seconds=0.05)
    away.stop()
    rules = {"parallel": 1, "backoff_seconds": 0.01, "timeout_seconds": 20, "max_retries": 5}
    urls = []
    with pool_of(away, alive, **rules) as pool:
        feeding(pool, 60)
        for outcome in pool.outcomes():
            if outcome is not None:
                urls.append(outcome.url)
                if len(urls) == 10:
                    away.start()
    assert len(urls) == 60
    assert {*urls[:10]} == {alive.url}
    assert away.url in urls


def test_a_server_that_was_given_up_comes_back_while_another_one_lives(serve: Serve) -> None:
    away, alive = serve([Fault.drop()] * 4), serve(seconds=0.05)
    pool = pool_of(away, alive, max_retries=1, parallel=1, backoff_seconds=0.01)
    outcomes = ask_all(pool, 60)
    assert by_server(outcomes).keys() == {away.url, alive.url}


@pytest.mark.parametrize("late", [Fault.hang(), Fault.delay(2.0)])
def test_at_the_end_an_idle_server_takes_over_what_another_one_keeps(
    serve: Serve, late: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.captions.pool, "STEAL_SECONDS", 0.5)
    slow, alive = serve(late), serve(seconds=0.02)
    started = time.monotonic()
    outcomes = ask_all(pool_of(slow, alive, parallel=2, timeout_seconds=600), 12)
    assert time.monotonic() - started < SLACK_SECONDS
    assert by_server(outcomes) == {alive.url: 12}
    assert len(slow.asked()) == 2
    assert len(alive.asked()) == 12


def test_nothing_is_taken_over_from_a_server_that_is_merely_busy(serve: Serve) -> None:
    servers = [serve(seconds=0.3), serve(seconds=0.3)]
    ask_all(pool_of(*servers, parallel=2, timeout_seconds=20), 7)
    assert sum(len(server.asked()) for server in servers) == 7


@pytest.mark.parametrize("retries", [0, 2])
def test_when_all_are_dead_everything_fails_soon(serve: Serve, retries: int) -> None:
    dead, broken = serve(), serve(Fault.reset())
    dead.stop()
    started = time.monotonic()
    outcomes = ask_all(pool_of(dead, broken, max_retries=retries), 300)
    backoff = 0.02 * (2 ** (retries + 1))
    assert time.monotonic() - started < (TIMEOUT + backoff) * (retries + 1) + SLACK_SECONDS
    assert all(one.answer is None for one in outcomes)
    kinds = Counter(one.kind for one in outcomes)
    assert kinds["no server answers"] > 280
    lost = [one for one in outcomes if one.kind == "no server answers"]
    assert all(dead.url in one.message and broken.url in one.message for one in lost)
    assert len(broken.asked()) <= 2 + retries


def test_when_all_hang_everything_fails_soon(serve: Serve) -> None:
    servers = [serve(Fault.hang()), serve(Fault.hang_mid_stream())]
    started = time.monotonic()
    outcomes = ask_all(pool_of(*servers, max_retries=1, parallel=2), 100)
    assert time.monotonic() - started < 2 * TIMEOUT + SLACK_SECONDS
    assert {one.kind for one in outcomes} <= {"time-out", "no server answers"}
    assert sum(len(server.asked()) for server in servers) <= 2 * (2 + 1)


def test_a_server_that_answers_with_errors_for_ever_is_given_up(serve: Serve) -> None:
    server = serve(Fault.status(500, "out of memory"))
    outcomes = ask_all(pool_of(server, max_retries=1, backoff_seconds=0.005, parallel=4), 300)
    kinds = Counter(one.kind for one in outcomes)
    assert kinds.keys() <= {"server error (500)", "no server answers"}
    assert all("out of memory" in one.message for one in outcomes)
    assert len(server.asked()) < 50


def test_what_is_refused_is_not_asked_again_and_blames_nobody(serve: Serve) -> None:
    server = serve({sha(number): Fault.status(400, "no picture") for number in range(0, 40, 2)})
    pool = pool_of(server, backoff_seconds=1e6, parallel=2, timeout_seconds=20)
    outcomes = ask_all(pool, 40)
    refused = {one.subject: one for one in outcomes if one.answer is None}
    assert refused.keys() == set(range(0, 40, 2))
    assert {(one.kind, one.attempts) for one in refused.values()} == {("refused (400)", 1)}
    assert len(server.asked()) == 40


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_without_the_model_is_asked_once_per_thread(serve: Serve, status: int) -> None:
    closed, alive = serve(Fault.status(status, "not here")), serve()
    outcomes = ask_all(pool_of(closed, alive, parallel=2, max_retries=0, timeout_seconds=20), 40)
    assert by_server(outcomes) == {alive.url: 40}
    assert {one.attempts for one in outcomes} == {1}, "it was not the question's fault"
    assert 1 <= len(closed.asked()) <= 2


def test_without_any_server_that_has_the_model_everything_fails(serve: Serve) -> None:
    servers = [serve(Fault.status(404, "no model")), serve(Fault.status(401, "no key"))]
    outcomes = ask_all(pool_of(*servers, parallel=1), 40)
    assert {one.kind for one in outcomes} == {"no server answers"}
    assert {one.message for one in outcomes} <= {
        f"{servers[0].url}: no model; {servers[1].url}: no key"
    }
    assert [len(server.asked()) for server in servers] == [1, 1]


def test_leaving_amid_the_work_leaves_nobody_waiting(serve: Serve) -> None:
    before = threading.active_count()
    server = serve(Fault.hang())
    with pool_of(server, parallel=4, room=3) as pool:
        feeder = feeding(pool, 1000)
        while len(server.asked()) < 4:
            time.sleep(0.01)
        assert feeder.is_alive(), "it waits for room"
    feeder.join(SLACK_SECONDS)
    assert not feeder.is_alive()
    assert not pool.put(0, question(0))
    deadline = time.monotonic() + TIMEOUT + SLACK_SECONDS
    while threading.active_count() > before + 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before + 1, "the server's thread alone is left"


def test_questions_wait_outside_where_there_is_no_room(serve: Serve) -> None:
    server = serve(Fault.hang())
    with pool_of(server, parallel=2, room=3, timeout_seconds=600) as pool:
        put = []

        def feed() -> None:
            for number in range(100):
                pool.put(number, question(number))
                put.append(number)

        threading.Thread(target=feed, daemon=True).start()
        while len(server.asked()) < 2 or len(put) < 5:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(put) == 2 + 3


def test_an_error_of_the_feeding_is_raised(serve: Serve) -> None:
    with pytest.raises(OSError, match="disk"), pool_of(serve()) as pool:
        pool.put(0, question(0))
        pool.end(OSError("disk"))
        list(pool.outcomes())


def test_an_error_in_a_thread_is_raised(serve: Serve) -> None:
    def broken(server: Server, question: Question, seconds: float) -> Answer:
        raise ZeroDivisionError("a mistake of ours")

    rules = Rules(timeout_seconds=1, max_retries=1)
    with pytest.raises(ZeroDivisionError), Pool([serve().url], broken, rules) as pool:
        feeding(pool, 10)
        list(pool.outcomes())


def test_what_cannot_be_asked_is_told(serve: Serve) -> None:
    with pool_of(serve()) as pool:
        pool.put(1, question(1))
        pool.drop(2, "the photo changed", "it is gone")
        pool.end()
        found = {one.subject: one for one in pool.outcomes() if one is not None}
    assert found.keys() == {1, 2}
    assert (found[2].kind, found[2].message) == ("the photo changed", "it is gone")


def test_nothing_to_ask_is_over_at_once(serve: Serve) -> None:
    assert ask_all(pool_of(serve()), 0) == []


def test_it_tells_that_it_still_waits(serve: Serve) -> None:
    with pool_of(serve(seconds=0.3), timeout_seconds=20) as pool:
        pool.put(0, question(0))
        pool.end()
        told = list(pool.outcomes())
    assert len(told) > 1
    assert {*told[:-1]} == {None}
