"""Whatever happens to a server or to an answer: what is lost, what is told, what is asked again."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.captions.model import CaptionerError
from tests.caption_server import DIGEST, CaptionServer, Fault
from tests.captioning import (
    TILES,
    Captioning,
    Captions,
    failed_of,
    make_captioning,
    pictures_of,
    says_which,
)
from tests.model_fixtures import TinyModels
from tests.projects import make_old

TIMEOUT = 1.0
SLACK_SECONDS = 20.0
"""For two busy cores; what hangs for good would take minutes."""
ONE_BY_ONE = ("caption_parallel=1", "caption_max_retries=1", f"caption_timeout={TIMEOUT}")
AT_ONCE, UNLUCKY = 0, 5
"""Which picture's first request fails, and which picture's all requests do."""
PASSING = {
    "drop": (Fault.drop(), "connection lost"),
    "reset": (Fault.reset(), "connection lost"),
    "garbage": (Fault.garbage(), "garbage"),
    "no object": (Fault.garbage('["a caption"]\n'), "garbage"),
    "half a stream": (Fault.half_stream(), "connection lost"),
    "half a clean stream": (Fault.half_stream(clean=True), "half an answer"),
    "error amid a stream": (Fault.mid_stream_error(), "error amid the answer"),
    "hang": (Fault.hang(), "time-out"),
    "hang amid a stream": (Fault.hang_mid_stream(), "time-out"),
    "dribble": (Fault.dribble(0.05), "time-out"),
    "late": (Fault.delay(20.0), "time-out"),
    "408": (Fault.status(408), "server error (408)"),
    "429": (Fault.status(429, retry_after=0.1), "busy (429)"),
    "500": (Fault.status(500, "out of memory"), "server error (500)"),
    "502": (Fault.status(502, "<html>Bad Gateway</html>"), "server error (502)"),
    "503": (Fault.status(503), "busy (503)"),
}
"""Faults that may pass, and what they are called."""


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> Iterator[tuple[Captioning, Captions]]:
    """A project whose store has all but captions, and what a server without faults says."""
    with CaptionServer(answer=says_which) as server:
        folder = tmp_path_factory.mktemp("undisturbed")
        captioning = make_captioning(folder / "project", tiny_models["sd15"], server)
        captioning = captioning.having(*ONE_BY_ONE)
        captioning.caption("enable_captioning=false")
        captions = captioning.in_store_of(folder / "store").caption()
        assert len(captions.answers) == len(set(captioning.pictures())) == TILES
        yield captioning, captions


@pytest.fixture
def fresh(
    undisturbed: tuple[Captioning, Captions], tmp_path: Path
) -> tuple[Captioning, list[str], Captions]:
    """The project with an empty store, its pictures in their order, and what they are called."""
    captioning, captions = undisturbed
    return captioning.in_store_of(tmp_path / "store"), captioning.pictures(), captions


@dataclass(frozen=True)
class Ran:
    """Two runs: one with a fault, one without."""

    first: Captions
    asked: list[str]
    failed: dict[bytes, str]
    seconds: float
    second: Captions
    asked_again: list[str]


def run_with(captioning: Captioning, pictures: list[str], fault: Fault, store: Path) -> Ran:
    script = {pictures[AT_ONCE]: [fault], pictures[UNLUCKY]: fault}
    with CaptionServer(script=script, answer=says_which) as server:
        own = captioning.asking(server).in_store_of(store)
        started = time.monotonic()
        first = own.caption()
        seconds, asked = time.monotonic() - started, own.pictures()
        failed = failed_of(own.config())
        server.script = ()
        second = own.caption()
        return Ran(first, asked, failed, seconds, second, own.pictures()[len(asked) :])


@pytest.fixture(scope="module")
def ran(
    undisturbed: tuple[Captioning, Captions], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[Ran]"]]:
    """All faults side by side, because most of the time is waiting."""
    captioning, _ = undisturbed
    pictures, folder = captioning.pictures(), tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(4) as pool:
        yield {
            name: pool.submit(run_with, captioning, pictures, fault, folder / f"{number}")
            for number, (name, (fault, _)) in enumerate(PASSING.items())
        }


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_costs_its_own_requests_and_a_tile_at_most(
    ran: dict[str, "Future[Ran]"], undisturbed: tuple[Captioning, Captions], name: str
) -> None:
    captioning, captions = undisturbed
    pictures, kind = captioning.pictures(), PASSING[name][1]
    found = ran[name].result()
    counts = found.first.counts
    assert (counts.computed, counts.reused, counts.rejected) == (TILES - 1, 0, 1)
    twice = [pictures[AT_ONCE], pictures[UNLUCKY]]
    assert sorted(found.asked) == sorted([*pictures, *twice]), "each failure is asked once more"
    by_picture = dict(zip(pictures_of(found.first.answers), found.first.answers, strict=True))
    assert by_picture.keys() == {*pictures} - {pictures[UNLUCKY]}
    assert by_picture.pop(pictures[AT_ONCE])["attempts"] == 2
    assert {row["attempts"] for row in by_picture.values()} == {1}
    ((label, reason),) = found.first.rejects.items()
    assert "photo0.jpg, detail x2 at " in label
    assert reason.startswith(f"{kind} after 2 tries: http://127.0.0.1:")
    assert list(found.failed.values()) == [reason]
    # Two failures of TIMEOUT each, and at most two pauses of 1 s, for either picture.
    assert found.seconds < 4 * TIMEOUT + 4 * 1.0 + SLACK_SECONDS
    assert (found.second.counts.computed, found.second.counts.reused) == (1, TILES - 1)
    assert (found.second.rejects, found.asked_again) == ({}, [pictures[UNLUCKY]])
    assert found.second.texts() == captions.texts()


@pytest.mark.parametrize("fault", [Fault.ok(), Fault.delay(0.1), Fault.thinking("Hm. A tile?")])
def test_what_is_no_fault_is_not_asked_again(
    fresh: tuple[Captioning, list[str], Captions], fault: Fault
) -> None:
    captioning, pictures, captions = fresh
    with CaptionServer(script=fault, answer=says_which) as server:
        own = captioning.asking(server).having("caption_timeout=20")
        assert own.caption().texts() == captions.texts()
        assert own.pictures() == pictures


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_not_made_again(
    fresh: tuple[Captioning, list[str], Captions], status: int
) -> None:
    captioning, pictures, captions = fresh
    script = {pictures[UNLUCKY]: Fault.status(status, "cannot decode the image")}
    with CaptionServer(script=script, answer=says_which) as server:
        own = captioning.asking(server)
        first = own.caption()
        assert first.counts.rejected == 1
        (reason,) = first.rejects.values()
        assert reason == f"refused ({status}): {server.url}: cannot decode the image"
        assert own.pictures() == pictures
        server.script = ()
        assert own.caption().texts() == captions.texts()
        assert own.pictures()[TILES:] == [pictures[UNLUCKY]]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_would_refuse_everything_is_asked_once(
    fresh: tuple[Captioning, list[str], Captions], status: int
) -> None:
    captioning, pictures, captions = fresh
    with CaptionServer(script=Fault.status(status, "not for you"), answer=says_which) as server:
        own = captioning.asking(server)
        with pytest.raises(CaptionerError, match=r"only 0% of 12 .*12 no server answers.*for you"):
            own.caption()
        assert own.pictures() == pictures[:1]
        assert set(failed_of(own.config()).values()) == {
            f"no server answers: {server.url}: not for you"
        }


def test_below_the_least_success_the_stage_fails_and_keeps_what_it_has(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, pictures, captions = fresh
    lost = pictures[2:8:2]
    script = {sha: Fault.status(400, "no") for sha in lost}
    with CaptionServer(script=script, answer=says_which) as server:
        own = captioning.asking(server)
        told = r"only 75% of 12 captions .*caption_min_success is 0\.9 \(3 refused \(400\); .*kept"
        with pytest.raises(CaptionerError, match=told):
            own.caption()
        assert {*pictures_of(own.answers())} == {*pictures} - {*lost}
        with pytest.raises(CaptionerError, match=told):
            own.caption()
        assert sorted(own.pictures()[TILES:]) == sorted(lost), "only those that failed"
        fine = own.caption("caption_min_success=0.75")
        assert (fine.counts.reused, fine.counts.computed, fine.counts.rejected) == (9, 0, 3)
        assert len(fine.rejects) == 3
        server.script = {}
        assert own.caption().texts() == captions.texts()
        assert len(own.pictures()) == TILES + 3 * 3


def test_nothing_is_lost_when_the_only_server_dies_amid_the_run(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, pictures, captions = fresh
    with CaptionServer(answer=says_which) as server:
        dying = Dying(server, 5)
        own = captioning.asking(server)
        started = time.monotonic()
        with pytest.raises(CaptionerError, match=r"only 42% .*no server answers"):
            own.caption()
        assert time.monotonic() - started < 2 * TIMEOUT + 1.0 + SLACK_SECONDS
        assert sorted(pictures_of(own.answers())) == sorted(pictures[:5])
        dying.join()
        with pytest.raises(CaptionerError, match=r"no caption server answers .*ollama serve"):
            own.caption()
        server.script = ()
        server.start()
        assert own.caption().texts() == captions.texts()
        assert sorted(own.pictures()) == sorted([*pictures, pictures[5]])


class Dying:
    """Lets a server answer so many questions and stop amid the next one."""

    def __init__(self, server: CaptionServer, count: int) -> None:
        # The server's own thread, which calls the script, cannot wait for its end.
        self._thread = threading.Thread(target=server.stop)
        self._count = count
        server.script = self

    def __call__(self, number: int, sha: str) -> Fault:
        if number == self._count:
            self._thread.start()
        return Fault.ok() if number < self._count else Fault.hang()

    def join(self) -> None:
        self._thread.join()


def test_a_server_that_is_started_again_goes_on(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, pictures, captions = fresh
    with CaptionServer(answer=says_which, seconds=0.05) as server, ThreadPoolExecutor(1) as pool:
        own = captioning.asking(server).having("caption_max_retries=3", "caption_timeout=20")
        running = pool.submit(own.caption)
        while len(server.asked()) < 4:
            time.sleep(0.01)
        server.stop()
        time.sleep(0.3)
        server.start()
        done = running.result(SLACK_SECONDS * 2)
        assert (done.counts.computed, done.rejects) == (TILES, {})
        assert done.texts() == captions.texts()
        assert len(own.pictures()) <= TILES + 1


def test_the_others_do_the_work_of_a_server_that_dies(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, pictures, captions = fresh
    with (
        CaptionServer(answer=says_which, seconds=0.02) as dies,
        CaptionServer(answer=says_which, seconds=0.02) as lives,
    ):
        dying = Dying(dies, 2)
        own = captioning.asking(dies, lives)
        done = own.caption()
        dying.join()
        assert done.texts() == captions.texts()
        assert (done.counts.computed, done.rejects) == (TILES, {})
        by_server = [row["server"] for row in done.answers]
        assert (by_server.count(dies.url), by_server.count(lives.url)) == (2, TILES - 2)
        assert lives.unloads == ["tiny:latest"]


def test_a_server_that_hangs_keeps_no_tile_from_the_others(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, _, captions = fresh
    with (
        CaptionServer(answer=says_which, script=Fault.hang()) as hangs,
        CaptionServer(answer=says_which) as works,
    ):
        own = captioning.asking(hangs, works).having("caption_timeout=600")
        started = time.monotonic()
        done = own.caption()
        assert time.monotonic() - started < SLACK_SECONDS + 2.0
        assert done.texts() == captions.texts()
        assert {row["server"] for row in done.answers} == {works.url}


def test_a_server_that_always_fails_ends_the_run(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, pictures, _ = fresh
    with CaptionServer(script=Fault.status(500, "no memory"), answer=says_which) as server:
        own = captioning.asking(server).having("caption_max_retries=0", "caption_probability=0.2")
        num_chosen = own.plan()["stages"]["captions"]["computed"]
        assert 1 <= num_chosen <= 5
        started = time.monotonic()
        told = rf"only 0% of {num_chosen} .*\({num_chosen} server error \(500\); .*no memory"
        with pytest.raises(CaptionerError, match=told):
            own.caption()
        assert time.monotonic() - started < num_chosen * (1.0 + TIMEOUT) + SLACK_SECONDS
        assert len(own.pictures()) == num_chosen


def test_a_server_that_hangs_for_good_ends_the_run(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, pictures, _ = fresh
    with CaptionServer(script=Fault.hang(), answer=says_which) as server:
        own = captioning.asking(server).having("caption_parallel=4")
        started = time.monotonic()
        with pytest.raises(CaptionerError, match="12 no server answers|8 no server answers"):
            own.caption()
        assert time.monotonic() - started < 2 * TIMEOUT + 1.0 + SLACK_SECONDS
        assert len(own.pictures()) == 4 + 1, "four at once, then one to see whether it is back"


def test_a_full_queue_is_waited_for(fresh: tuple[Captioning, list[str], Captions]) -> None:
    captioning, _, captions = fresh
    with CaptionServer(answer=says_which, parallel=1, max_pending=0, seconds=0.1) as server:
        own = captioning.asking(server).having("caption_parallel=3", "caption_timeout=20")
        done = own.having("caption_max_retries=4", "caption_probability=0.4").caption()
        texts = done.texts()
        assert len(texts) > 2
        assert texts.items() <= captions.texts().items()
        assert done.rejects == {}
        refused = [one for one in own.asked() if one.fault.code == 503]
        assert refused
        assert len(own.pictures()) == len(texts) + len(refused)


def test_a_server_says_how_long_to_wait(fresh: tuple[Captioning, list[str], Captions]) -> None:
    captioning, pictures, captions = fresh
    script = [Fault.status(429, "rate limit", retry_after=1.6)]
    with CaptionServer(script=script, answer=says_which) as server:
        own = captioning.asking(server)
        assert own.caption().texts() == captions.texts()
        first, second, *_ = own.asked()
        assert second.at - first.at >= 1.6


def test_another_model_under_the_name_is_not_asked(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    """The model is pulled anew while a run goes on: the old answers stay alone."""
    captioning, pictures, _ = fresh

    def renewed(number: int, sha: str) -> Fault:
        if number < 4:
            return Fault.ok()
        server.models["tiny:latest"] = "f" * 64
        return Fault.reset()

    with CaptionServer(answer=says_which, script=renewed) as server:
        own = captioning.asking(server)
        with pytest.raises(CaptionerError, match=r"no server answers.*it has f{12}"):
            own.caption()
        assert own.pictures() == pictures[:5]
        assert {row["model_digest"] for row in own.answers()} == {DIGEST}
        server.script = ()
        told = own.plan()["stages"]["captions"]
        assert (told["computed"], told["reused"]) == (TILES, 0)
        assert own.caption().counts.computed == TILES


def stopping_at(count: int) -> Callable[[int], None]:
    def told(done: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return told


def test_answers_are_kept_when_the_run_is_stopped(
    fresh: tuple[Captioning, list[str], Captions],
) -> None:
    captioning, pictures, captions = fresh
    with CaptionServer(answer=says_which, seconds=0.02) as server:
        own = captioning.asking(server)
        with pytest.raises(KeyboardInterrupt):
            own.caption(told=stopping_at(4))
        assert sorted(pictures_of(own.answers())) == sorted(pictures[:4])
        assert server.unloads == ["tiny:latest"]
        before = len(own.pictures())
        assert own.caption().texts() == captions.texts()
        assert sorted(own.pictures()[before:]) == sorted(pictures[4:])


def test_a_photo_that_changed_meanwhile_is_told_and_made_next_time(
    fresh: tuple[Captioning, list[str], Captions], tmp_path: Path
) -> None:
    captioning, _, _ = fresh
    own = captioning.of_its_own(tmp_path / "project").having("caption_min_success=0")
    photo = own.project.photos / "photo0.jpg"
    content = photo.read_bytes()
    done = own.caption(before_work=photo.unlink)
    assert (done.counts.computed, done.counts.rejected) == (0, TILES)
    assert all(reason.startswith("the photo changed: ") for reason in done.rejects.values())
    for settings in (("caption_min_success=0.1",), ()):
        photo.write_bytes(content)
        make_old(photo)
        if settings:
            with pytest.raises(CaptionerError, match="12 the photo changed"):
                own.caption(*settings, before_work=photo.unlink)
    assert own.caption().counts.computed == TILES
