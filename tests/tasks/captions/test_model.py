"""Which model captions: known by its digest, able to see, and downloaded where it is allowed."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

import tasks.captions.model
from tasks.captions.model import (
    Captioner,
    CaptionerError,
    Survey,
    make_ready,
    recorded_digest,
    require_model,
    survey,
)
from tasks.config.concepts import DetailCrops
from tasks.progress import LOGGER_NAME
from tests.caption_server import DIGEST, CaptionServer, Fault

OTHER = "0" * 64
SLACK_SECONDS = 20.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for in vain; in earnest it is seconds."""
    monkeypatch.setattr(tasks.captions.model, "PROBE_SECONDS", 0.4)
    monkeypatch.setattr(tasks.captions.model, "PULL_PAUSE_SECONDS", 0.1)


Serve = Callable[..., CaptionServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[CaptionServer] = []

    def start(models: Any = None, **options: Any) -> CaptionServer:
        servers.append(CaptionServer(models, **options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def captioner(*servers: CaptionServer, **changes: Any) -> Captioner:
    urls = [server.url for server in servers]
    settings = {"caption_model": "tiny", "caption_endpoint": urls} | changes
    return Captioner.of(DetailCrops(**settings))


def ready(asked: Captioner, *, auto_pull: bool = True) -> str:
    return make_ready(asked, survey(asked), auto_pull=auto_pull)


def test_what_servers_say_of_their_models(serve: Serve) -> None:
    has = serve()
    lacks = serve({"big:7b": OTHER})
    away = serve()
    away.stop()
    found = survey(captioner(has, lacks, away))
    assert found.digest == DIGEST
    assert found.digests == {has.url: DIGEST}
    assert found.lacking == {lacks.url: ("big:7b",)}
    assert found.away == {away.url: "no connection"}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault.hang(), "no answer within 0.4 s"),
        (Fault.drop(), "the connection broke"),
        (Fault.garbage("<html>"), "the answer is no JSON"),
        (Fault.status(500, "no memory"), "no memory"),
        (Fault.status(401, "no key"), "no key"),
    ],
)
def test_a_server_that_does_not_say_it_is_away(serve: Serve, fault: Fault, why: str) -> None:
    broken, fine = serve(at={"/api/tags": fault}), serve()
    started = time.monotonic()
    found = survey(captioner(broken, fine))
    assert time.monotonic() - started < SLACK_SECONDS
    assert found.digests == {fine.url: DIGEST}
    assert why in found.away[broken.url]
    assert ready(captioner(broken, fine)) == DIGEST


def test_servers_are_asked_side_by_side(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.captions.model, "PROBE_SECONDS", 2.0)
    servers = [serve(at={"/api/tags": Fault.hang()}) for _ in range(8)]
    started = time.monotonic()
    assert len(survey(captioner(*servers)).away) == 8
    assert time.monotonic() - started < 8 * 2.0 - 1.0


def test_different_models_under_one_name_are_refused(serve: Serve) -> None:
    first, same, different = serve(), serve(), serve({"tiny:latest": OTHER})
    assert ready(captioner(first, same)) == DIGEST
    told = f"different models .*'tiny:latest': {first.url} has {DIGEST[:12]}, {different.url} has 0"
    with pytest.raises(CaptionerError, match=told):
        survey(captioner(first, different))
    # One that is away, or that has none, is none of another kind.
    different.stop()
    assert survey(captioner(first, different)).digest == DIGEST


def test_nobody_answers(serve: Serve) -> None:
    servers = [serve(), serve()]
    for server in servers:
        server.stop()
    told = rf"no caption server answers \({servers[0].url}: no connection; {servers[1].url}: no con"
    for check in (make_ready, require_model):
        asked = captioner(*servers)
        with pytest.raises(CaptionerError, match=f"{told}.*start it with `ollama serve`"):
            check(asked, survey(asked), auto_pull=True)  # type: ignore[operator]
        asked = captioner(*servers, caption_protocol="openai")
        with pytest.raises(CaptionerError, match="start it, or correct caption_endpoint"):
            check(asked, survey(asked), auto_pull=True)  # type: ignore[operator]


def test_those_that_are_away_are_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    away, fine = serve(), serve()
    away.stop()
    assert ready(captioner(away, fine)) == DIGEST
    assert f"caption server {away.url} is away (no connection)" in caplog.text


@pytest.mark.parametrize("check", [make_ready, require_model])
def test_a_model_that_cannot_see_is_refused(serve: Serve, check: Any) -> None:
    blind = serve(capabilities=("completion", "tools"))
    asked = captioner(blind)
    told = (
        r"'tiny:latest' takes no pictures \(at http.*can do: completion, tools\): choose a vision"
    )
    with pytest.raises(CaptionerError, match=told):
        check(asked, survey(asked), auto_pull=True)
    with pytest.raises(CaptionerError, match="can do: nothing"):
        blind.capabilities = ()
        check(asked, survey(asked), auto_pull=True)


def test_each_server_must_let_its_model_see(serve: Serve) -> None:
    sees, blind = serve(), serve(capabilities=("completion",))
    with pytest.raises(CaptionerError, match=f"at {blind.url}"):
        ready(captioner(sees, blind))


def test_old_servers_do_not_tell_what_a_model_can(serve: Serve) -> None:
    assert ready(captioner(serve(capabilities=None))) == DIGEST
    assert ready(captioner(serve({"tiny": DIGEST}), caption_protocol="openai")) == ""


def test_a_server_that_does_not_say_what_its_model_can_is_named(serve: Serve) -> None:
    broken = serve(at={"/api/show": Fault.status(500, "no memory")})
    with pytest.raises(CaptionerError, match=f"caption server {broken.url}: no memory"):
        ready(captioner(broken))


@pytest.mark.parametrize("check", [make_ready, require_model])
def test_without_auto_pull_a_missing_model_is_an_error(serve: Serve, check: Any) -> None:
    lacks = serve({"big:7b": OTHER, "a:1b": OTHER}, registry={"tiny:latest": DIGEST})
    asked = captioner(lacks)
    told = (
        rf"{lacks.url} has no model 'tiny:latest' \(it has: big:7b, a:1b\): run "
        "`ollama pull tiny:latest` there, or set caption_auto_pull = true"
    )
    with pytest.raises(CaptionerError, match=told):
        check(asked, survey(asked), auto_pull=False)
    assert not any(request.path == "/api/pull" for request in lacks.requests)
    asked = captioner(lacks, caption_protocol="openai")
    with pytest.raises(CaptionerError, match="has no model 'tiny' .*start it with this model"):
        check(asked, survey(asked), auto_pull=True)


class Told(logging.Handler):
    """What was told of the progress."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[tuple[str, int, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = record.__dict__
        self.facts.append((facts["stage"], facts["done"], facts["total"], facts["unit"]))


@pytest.fixture
def told() -> Iterator[Told]:
    logger, handler = logging.getLogger(LOGGER_NAME), Told()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def pulls(server: CaptionServer) -> int:
    return sum(request.path == "/api/pull" for request in server.requests)


def test_a_missing_model_is_downloaded_and_that_is_told(serve: Serve, told: Told) -> None:
    lacks = serve({}, registry={"tiny:latest": DIGEST})
    asked = captioner(lacks)
    require_model(asked, survey(asked), auto_pull=True)
    assert pulls(lacks) == 0, "that is only a look"
    assert ready(asked) == DIGEST
    assert lacks.models == {"tiny:latest": DIGEST}
    assert pulls(lacks) == 1
    assert {(stage, unit) for stage, _, _, unit in told.facts} == {("pull tiny:latest", "MiB")}
    done = [one for _, one, _, _ in told.facts]
    assert done == sorted(done)
    assert told.facts[-1][1:3] == (10, 10)
    assert ready(asked) == DIGEST
    assert pulls(lacks) == 1


def test_a_model_that_nobody_has_is_an_error(serve: Serve) -> None:
    lacks = serve({})
    with pytest.raises(
        CaptionerError, match=r"could not download 'tiny:latest'.*not exist\. Check"
    ):
        ready(captioner(lacks))
    assert pulls(lacks) == 1


@pytest.mark.parametrize(
    "faults",
    [
        [Fault.half_stream()],
        [Fault.half_stream(clean=True)],
        [Fault.drop(), Fault.reset(), Fault.half_stream(), Fault.half_stream()],
    ],
)
def test_a_download_that_broke_goes_on(serve: Serve, told: Told, faults: list[Fault]) -> None:
    lacks = serve({}, registry={"tiny:latest": DIGEST}, pulls=faults)
    assert ready(captioner(lacks)) == DIGEST
    assert pulls(lacks) == len(faults) + 1
    done = [one for _, one, _, _ in told.facts]
    assert done == sorted(done), "what was there was not downloaded again"
    assert done[-1] == 10


def test_a_server_that_is_started_again_goes_on_with_its_download(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.captions.model, "PULL_PAUSE_SECONDS", 1.0)
    lacks = serve({}, registry={"tiny:latest": DIGEST}, pulls=[Fault.dribble(0.05)])

    def restart() -> None:
        while not pulls(lacks):
            time.sleep(0.01)
        time.sleep(0.2)
        lacks.stop()
        time.sleep(0.3)
        lacks.start()

    thread = threading.Thread(target=restart)
    thread.start()
    assert ready(captioner(lacks)) == DIGEST
    thread.join()


def test_a_download_that_breaks_each_time_is_given_up(serve: Serve) -> None:
    lacks = serve({}, registry={"tiny:latest": DIGEST}, pulls=Fault.reset())
    with pytest.raises(CaptionerError, match="could not download.*the connection broke"):
        ready(captioner(lacks))
    assert pulls(lacks) == tasks.captions.model.PULL_TRIES


def test_a_download_may_be_slow(serve: Serve, told: Told) -> None:
    """It has no time limit but for silence."""
    lacks = serve({}, registry={"tiny:latest": DIGEST}, pulls=Fault.dribble(0.05))
    assert ready(captioner(lacks)) == DIGEST
    assert pulls(lacks) == 1
    assert len({one for _, one, _, _ in told.facts}) == 11


def test_all_servers_download_what_they_lack(serve: Serve) -> None:
    has, lacks = serve(), serve({}, registry={"tiny:latest": DIGEST})
    assert ready(captioner(has, lacks)) == DIGEST
    assert (pulls(has), pulls(lacks)) == (0, 1)


def test_a_download_of_another_model_under_the_name_is_refused(serve: Serve) -> None:
    has, lacks = serve(), serve({}, registry={"tiny:latest": OTHER})
    with pytest.raises(CaptionerError, match="different models"):
        ready(captioner(has, lacks))


def test_a_download_that_leaves_nothing_is_an_error(serve: Serve) -> None:
    lacks = serve({}, registry={"tiny:latest": DIGEST})
    lacks.at["/api/pull"] = Fault.garbage('{"status": "success"}\n')
    with pytest.raises(CaptionerError, match="was pulled, but no server lists it"):
        ready(captioner(lacks))


def test_the_last_digest_of_a_model_is_remembered() -> None:
    rows = [("ollama", "big:7b", "1"), ("ollama", "tiny:latest", "2"), ("openai", "tiny", "")]
    rows += [("ollama", "tiny:latest", "3")]
    columns = ("protocol", "model", "model_digest")
    answers = pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    asked = Captioner.of(DetailCrops(caption_model="Tiny"))
    assert recorded_digest(asked, answers) == "2"
    openai = Captioner.of(DetailCrops(caption_model="tiny", caption_protocol="openai"))
    assert recorded_digest(openai, answers) == ""
    assert recorded_digest(asked, answers.slice(0, 1)) is None


def test_a_captioner_is_the_same_however_it_is_written() -> None:
    first = DetailCrops(caption_model="Tiny", caption_endpoint="http://localhost:11434/")
    second = DetailCrops(caption_model="tiny:latest", caption_endpoint=["http://localhost:11434"])
    assert Captioner.of(first) == Captioner.of(second)


def test_nothing_is_known_of_no_answers() -> None:
    assert Survey().digest is None
