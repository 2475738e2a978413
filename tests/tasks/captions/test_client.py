"""Every way in which a request can fail has a name, ends in time, and gives no secret away."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.captions.client import KEY_VARIABLE, CallError, Server
from tasks.captions.protocols import PROTOCOLS
from tasks.captions.protocols.base import Answer, Question
from tests.caption_server import DIGEST, CaptionServer, Fault, caption

TIMEOUT = 0.4
SLACK_SECONDS = 10.0
KEY = "sk-a-very-secret-key"
QUESTION = Question(
    model="tiny",
    system_prompt="Be short.",
    user_prompt="What is it?",
    jpeg=b"\xff\xd8 a picture",
    max_tokens=64,
    temperature=0.0,
)


@pytest.fixture(params=["ollama", "openai"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class Expected:
    """What a failure is called and what it means."""

    kind: str
    retry: bool = True
    away: bool = False
    forever: bool = False


def ask(protocol: str, url: str, seconds: float = 20.0, **changes: Any) -> Answer:
    return PROTOCOLS[protocol].ask(Server(url), replace(QUESTION, **changes), seconds)


def failure(call: Callable[[], object]) -> CallError:
    with pytest.raises(CallError) as caught:
        call()
    return caught.value


def means(error: CallError) -> Expected:
    return Expected(error.kind, error.retry, error.away, error.forever)


Piece = bytes | float


class Wire:
    """A server that sends what it is told, byte for byte; a number is a pause, in seconds.

    With `hello`, it does so as soon as it hears anything.
    """

    def __init__(
        self, *pieces: Piece, forever: bool = False, hello: bool = False, host: str = "127.0.0.1"
    ) -> None:
        self.heads: list[str] = []
        self._pieces, self._forever, self._hello = pieces, forever, hello
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone would leave `accept` waiting
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            data = connection.recv(1 << 16)
            while not self._hello and b"\r\n\r\n" not in data:
                data += connection.recv(1 << 16)
            head, _, body = data.partition(b"\r\n\r\n")
            self.heads.append(head.decode("latin-1"))
            lines = [line.lower() for line in head.decode("latin-1").splitlines()]
            sizes = [int(line.split(":")[1]) for line in lines if line.startswith("content-length")]
            while len(body) < sum(sizes):
                body += connection.recv(1 << 16)
            try:
                self._send(connection)
            except OSError:
                return

    def _send(self, connection: socket.socket) -> None:
        for piece in self._pieces:
            if isinstance(piece, float):
                time.sleep(piece)
            else:
                connection.sendall(piece)
        while self._forever:
            time.sleep(0.05)
            connection.sendall(b" ")


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    wires: list[Wire] = []

    def start(*pieces: Piece, **options: Any) -> Wire:
        wires.append(Wire(*pieces, **options))
        return wires[-1]

    yield start
    for one in wires:
        one.close()


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


LOST, TIME_OUT = Expected("connection lost", away=True), Expected("time-out", away=True)
FAULTS = {
    "drop": (Fault.drop(), LOST),
    "reset": (Fault.reset(), LOST),
    "garbage": (Fault.garbage(), Expected("garbage")),
    "half a stream": (Fault.half_stream(), LOST),
    "half a clean stream": (Fault.half_stream(clean=True), Expected("half an answer")),
    "error amid": (Fault.mid_stream_error("out of memory"), Expected("error amid the answer")),
    "hang": (Fault.hang(), TIME_OUT),
    "hang amid": (Fault.hang_mid_stream(), TIME_OUT),
    "dribble": (Fault.dribble(0.05), TIME_OUT),
    "slow dribble": (Fault.dribble(0.3), TIME_OUT),
    "400": (Fault.status(400, "bad"), Expected("refused (400)", retry=False)),
    "401": (Fault.status(401, "key"), Expected("refused (401)", retry=False, forever=True)),
    "403": (Fault.status(403, "key"), Expected("refused (403)", retry=False, forever=True)),
    "404": (Fault.status(404, "no"), Expected("refused (404)", retry=False, forever=True)),
    "408": (Fault.status(408, "late"), Expected("server error (408)")),
    "413": (Fault.status(413, "large"), Expected("refused (413)", retry=False)),
    "429": (Fault.status(429), Expected("busy (429)")),
    "500": (Fault.status(500, "no memory"), Expected("server error (500)")),
    "502": (Fault.status(502, "<html>Bad Gateway</html>"), Expected("server error (502)")),
    "503": (Fault.status(503), Expected("busy (503)")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failure_has_a_name_and_ends_in_time(protocol: str, name: str) -> None:
    fault, expected = FAULTS[name]
    with CaptionServer(script=fault) as server:
        started = time.monotonic()
        seconds = TIMEOUT if expected.kind == "time-out" else 20.0
        error = failure(lambda: ask(protocol, server.url, seconds))
        assert time.monotonic() - started < seconds + SLACK_SECONDS
        assert means(error) == expected
        if fault.text and fault.kind != "garbage":
            assert str(error) == fault.text
        assert error.retry_after is None
        assert len(server.asked()) == 1, "the client itself asks once"


def test_a_server_that_is_not_there_is_unreachable(protocol: str) -> None:
    with CaptionServer() as server:
        server.stop()
        error = failure(lambda: ask(protocol, server.url))
        assert means(error) == Expected("unreachable", away=True)
        assert means(failure(lambda: ask(protocol, "http://nobody.invalid"))) == means(error)


def test_a_server_without_tls_is_unreachable_by_https(
    protocol: str, wire: Callable[..., Wire]
) -> None:
    plain = wire(head("400 Bad Request", "Connection: close"), hello=True)
    error = failure(lambda: ask(protocol, plain.url.replace("http:", "https:")))
    assert means(error) == Expected("unreachable", away=True)
    assert "SSL" in str(error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *[("3", 3.0), ("0.5", 0.5), ("0", 0.0), ("-5", 0.0)],
        *[("soon", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_says_how_long_to_wait(
    protocol: str, wire: Callable[..., Wire], header: str, seconds: float | None, status: int
) -> None:
    body = b'{"error": "full"}'
    lines = (f"Retry-After: {header}", f"Content-Length: {len(body)}")
    error = failure(lambda: ask(protocol, wire(head(f"{status} Oh", *lines), body).url))
    assert means(error) == Expected(f"busy ({status})")
    assert (error.retry_after, str(error)) == (seconds, "full")


@pytest.mark.parametrize(
    "fault",
    [Fault.ok(), Fault.delay(0.1), Fault.thinking("Hm. <b>"), Fault.answer("a wäll, 木 🧱")],
)
def test_an_answer_is_the_text_alone(protocol: str, fault: Fault) -> None:
    with CaptionServer(script=fault) as server:
        answer = ask(protocol, server.url)
        said = fault.text or caption(QUESTION.jpeg, QUESTION.user_prompt)
        assert answer == Answer(said, "stop")


def test_an_answer_that_was_cut_off_says_so(protocol: str) -> None:
    with CaptionServer(script=Fault.length("a wall of")) as server:
        assert ask(protocol, server.url) == Answer("a wall of", "length")


def test_an_empty_answer_is_an_answer(protocol: str) -> None:
    with CaptionServer(script=Fault.answer("")) as server:
        assert ask(protocol, server.url) == Answer("", "stop")


def test_connections_are_used_again(protocol: str) -> None:
    with CaptionServer(script=[Fault.ok(), Fault.thinking("Hm."), Fault.length("a")]) as server:
        client, seen = Server(server.url), set()
        for _ in range(6):
            PROTOCOLS[protocol].models(client, 20)
            PROTOCOLS[protocol].ask(client, QUESTION, 20)
            seen |= server.connections
        assert len(seen) == 1


def test_a_connection_that_broke_is_not_used_again(protocol: str) -> None:
    script = [Fault.ok(), Fault.hang_mid_stream(), Fault.ok(), Fault.half_stream(clean=True)]
    with CaptionServer(script=script) as server:
        client, kinds = Server(server.url), []
        for seconds in (20, TIMEOUT, 20, 20, 20):
            try:
                PROTOCOLS[protocol].ask(client, QUESTION, seconds)
                kinds.append("")
            except CallError as error:
                kinds.append(error.kind)
        assert kinds == ["", "time-out", "", "half an answer", ""]


def test_a_server_that_was_started_again_is_reached(protocol: str) -> None:
    """The connection of before is gone; the first request may notice, the next one must not."""
    with CaptionServer() as server:
        client = Server(server.url)
        PROTOCOLS[protocol].ask(client, QUESTION, 20)
        server.stop()
        server.start()
        try:
            PROTOCOLS[protocol].ask(client, QUESTION, 20)
        except CallError as error:
            assert error.retry
        PROTOCOLS[protocol].ask(client, QUESTION, 20)


SCHEMA = {"type": "object", "properties": {"caption": {"type": "string"}}}


def test_what_is_asked_of_ollama() -> None:
    with CaptionServer(capabilities=("vision", "thinking")) as server:
        ask("ollama", server.url, json_schema=SCHEMA, think=False)
        (request,) = server.asked()
        assert (request.method, request.path) == ("POST", "/api/generate")
        assert request.body == {
            "model": "tiny",
            "prompt": "What is it?",
            "system": "Be short.",
            "options": {"temperature": 0.0, "num_predict": 64, "seed": 0},
            "stream": True,
            "format": SCHEMA,
            "think": False,
        }


@pytest.mark.parametrize("system_prompt", ["Be short.", ""])
def test_what_is_asked_of_openai(system_prompt: str) -> None:
    with CaptionServer() as server:
        for url in (server.url, f"{server.url}/v1", f"{server.url}/v1/"):
            ask("openai", url, json_schema=SCHEMA, system_prompt=system_prompt)
        system = [{"role": "system", "content": "Be short."}]
        content = [{"type": "image_url"}, {"type": "text", "text": "What is it?"}]
        for request in server.asked():
            assert request.path == "/v1/chat/completions"
            assert request.body == {
                "model": "tiny",
                "messages": [
                    *(system if system_prompt else []),
                    {"role": "user", "content": content},
                ],
                "temperature": 0.0,
                "max_tokens": 64,
                "seed": 0,
                "stream": True,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "caption", "schema": SCHEMA, "strict": True},
                },
            }
        assert len(server.asked()) == 3


def test_facts_of_models() -> None:
    models = {"tiny:latest": DIGEST, "Big:7B": "b" * 64}
    with CaptionServer(models) as server:
        client = Server(f"{server.url}/")
        ollama, openai = PROTOCOLS["ollama"], PROTOCOLS["openai"]
        assert ollama.models(client, 20) == {"tiny:latest": DIGEST, "big:7b": "b" * 64}
        assert openai.models(client, 20) == {"tiny:latest": "", "Big:7B": ""}
        assert (ollama.version(client, 20), openai.version(client, 20)) == ("0.12.0", "")
        assert ollama.capabilities(client, "tiny:latest", 20) == {"completion", "vision"}
        assert openai.capabilities(client, "tiny:latest", 20) is None
        server.capabilities = None
        assert ollama.capabilities(client, "tiny:latest", 20) is None
        assert ollama.unload is not None
        ollama.unload(client, "tiny:latest", 20)
        assert server.unloads == ["tiny:latest"]
        assert (openai.unload, openai.pull) == (None, None)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        *[("tiny", "tiny:latest"), (" Tiny ", "tiny:latest"), ("Qwen2.5VL:3B", "qwen2.5vl:3b")],
        *[("hf.co/Org/Model", "hf.co/org/model:latest"), ("host:5000/m", "host:5000/m:latest")],
    ],
)
def test_names_of_models(name: str, canonical: str) -> None:
    assert PROTOCOLS["ollama"].canonical(name) == canonical
    assert PROTOCOLS["openai"].canonical(name) == name.strip()


ODD_ANSWERS = [
    *["[]", "null", "3", pytest.param("[" * 99_999, id="deep"), '"text"', "[{}]", "\xff\xfe", ""],
    *['{"models": 3}', '{"models": [3]}', '{"models": [{}]}', '{"models": [null]}'],
    *['{"data": 3}', '{"data": [3]}', '{"data": [{}]}', '{"data": [{"id": null}]}'],
    *['{"models": {"name": "a"}}', '{"version": {}}', '{"capabilities": 3}'],
]


@pytest.mark.parametrize("text", ODD_ANSWERS)
def test_odd_answers_are_failures_and_no_accidents(protocol: str, text: str) -> None:
    """Whatever a server says, nothing but a CallError comes of it."""
    paths = ("/api/tags", "/api/version", "/api/show", "/v1/models")
    with CaptionServer(at=dict.fromkeys(paths, Fault.garbage(text))) as server:
        client, speaks = Server(server.url), PROTOCOLS[protocol]
        calls: Sequence[Callable[[], object]] = (
            lambda: speaks.models(client, 20),
            lambda: speaks.version(client, 20),
            lambda: speaks.capabilities(client, "tiny:latest", 20),
        )
        for call in calls:
            try:
                call()
            except CallError as error:
                assert error.kind == "garbage"


@pytest.mark.parametrize(
    "part",
    [
        *['{"response": null, "done": true}', '{"response": ["a"], "done": true}', '{"done": 1}'],
        *['{"choices": 3}', '{"choices": [3]}', '{"choices": [null]}', '{"choices": [{}]}'],
        *['{"choices": [{"delta": 3}]}', '{"choices": [{"delta": {"content": 3}}]}'],
        *['{"error": null}', '{"error": {}}', '{"error": {"message": {}}}', "[]", "3"],
    ],
)
def test_odd_parts_of_an_answer_are_failures_and_no_accidents(protocol: str, part: str) -> None:
    text = f"data: {part}\n\ndata: [DONE]\n\n" if protocol == "openai" else f"{part}\n"
    with CaptionServer(script=Fault.garbage(text)) as server:
        try:
            answer = ask(protocol, server.url)
        except CallError as error:
            assert error.kind in ("garbage", "half an answer", "error amid the answer")
        else:
            assert "None" not in answer.text


def test_the_body_of_an_error_may_break(protocol: str, wire: Callable[..., Wire]) -> None:
    broken = wire(head("500 Oh", "Content-Length: 99"), b'{"error": "no mem')
    error = failure(lambda: ask(protocol, broken.url))
    assert error.kind in ("server error (500)", "connection lost")
    chunked = wire(head("503 Oh", "Transfer-Encoding: chunked"), b"5\r\nhel")
    assert failure(lambda: ask(protocol, chunked.url)).kind in ("busy (503)", "connection lost")
    packed = head("500 Oh", "Content-Encoding: gzip", "Content-Length: 3")
    error = failure(lambda: ask(protocol, wire(packed, b"abc").url))
    assert error.kind in ("server error (500)", "connection lost")


def test_the_body_of_an_error_may_take_no_longer(protocol: str, wire: Callable[..., Wire]) -> None:
    for pieces, forever in (((), True), ((600.0,), False)):
        slow = wire(head("500 Oh", "Content-Length: 4000"), *pieces, forever=forever)
        started = time.monotonic()
        error = failure(lambda url=slow.url: ask(protocol, url, TIMEOUT))
        assert time.monotonic() - started < TIMEOUT + SLACK_SECONDS
        assert error.kind in ("server error (500)", "time-out")


def test_the_body_of_an_answer_may_take_no_longer(wire: Callable[..., Wire]) -> None:
    """Also one that never comes to the end of a line."""
    slow = wire(head("200 OK", "Content-Length: 4000"), b'{"response": "a', forever=True)
    started = time.monotonic()
    for protocol in PROTOCOLS:
        assert failure(lambda name=protocol: ask(name, slow.url, TIMEOUT)).kind == "time-out"
        models = PROTOCOLS[protocol].models
        error = failure(lambda models=models: models(Server(slow.url), TIMEOUT))
        assert error.kind == "time-out"
    assert time.monotonic() - started < 4 * TIMEOUT + SLACK_SECONDS


@pytest.mark.parametrize(
    ("body", "told"),
    [
        *[(b'{"error": "why"}', "why"), (b'{"error": {"message": "why"}}', "why")],
        *[(b"<html>why</html>", "<html>why</html>"), (b"", "500 Oh"), (b"\xff", "\ufffd")],
        *[(b'{"error": {"code": 3}}', '{"error": {"code": 3}}'), (b"[3]", "[3]")],
    ],
)
def test_an_error_says_what_the_server_says(
    protocol: str, wire: Callable[..., Wire], body: bytes, told: str
) -> None:
    said = wire(head("500 Oh", f"Content-Length: {len(body)}"), body)
    assert str(failure(lambda: ask(protocol, said.url))) == told


def test_a_long_page_of_an_error_is_cut(protocol: str, wire: Callable[..., Wire]) -> None:
    page = b"<p>" * 100_000
    said = wire(head("500 Oh", f"Content-Length: {len(page)}"), page)
    assert len(str(failure(lambda: ask(protocol, said.url)))) < 5000


def test_a_packed_error_is_read(protocol: str, wire: Callable[..., Wire]) -> None:
    body = gzip.compress(b'{"error": "why"}')
    lines = ("Content-Encoding: gzip", f"Content-Length: {len(body)}")
    assert str(failure(lambda: ask(protocol, wire(head("500 Oh", *lines), body).url))) == "why"


def test_what_is_no_http_is_a_lost_connection(protocol: str, wire: Callable[..., Wire]) -> None:
    for said in (b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"HTTP/1.1 abc\r\n"):
        error = failure(lambda said=said: ask(protocol, wire(said).url))
        assert error.retry
        assert error.kind == "connection lost"


def events(*parts: Any, line: str = "\n\n", start: str = "data: ") -> bytes:
    said = [start + (part if isinstance(part, str) else json.dumps(part)) + line for part in parts]
    body = "".join(said).encode()
    return head("200 OK", f"Content-Length: {len(body)}") + body


def delta(text: str | None, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


@pytest.mark.parametrize(
    "said",
    [
        events(delta("a "), delta("wall"), delta(None, "stop"), "[DONE]"),
        events(delta("a "), delta("wall"), delta("", "stop"), "[DONE]", line="\r\n\r\n"),
        events(delta("a wall"), delta(None, "stop"), "[DONE]", start="data:"),
        events(delta("a wall"), delta(None, "stop"), {"choices": [], "usage": {}}, "[DONE]"),
        events(delta("a wall"), delta(None, "stop")),
        events(delta("a wall", "stop"), "[DONE]", start=": ping\n\nevent: message\ndata: "),
    ],
)
def test_dialects_of_server_sent_events(wire: Callable[..., Wire], said: bytes) -> None:
    assert ask("openai", wire(said).url) == Answer("a wall", "stop")


def test_an_error_without_a_status_is_told(wire: Callable[..., Wire]) -> None:
    body = b'{"error": {"message": "too many images"}}'
    said = wire(head("200 OK", f"Content-Length: {len(body)}"), body)
    error = failure(lambda: ask("openai", said.url))
    assert (error.kind, str(error)) == ("error amid the answer", "too many images")


def authorizations(wire: Wire) -> list[str]:
    lines = [line for one in wire.heads for line in one.splitlines()]
    return [line for line in lines if line.lower().startswith("authorization")]


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of somebody, for other purposes."""
    file = tmp_path / "netrc"
    file.write_text("default login somebody password something\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_key_comes_from_the_environment_alone(
    protocol: str, wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    said = wire(head("500 Oh", "Content-Length: 2"), b"no", host=host)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    failure(lambda: ask(protocol, said.url))
    assert authorizations(said) == []
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    failure(lambda: ask(protocol, said.url))
    assert authorizations(said) == [f"Authorization: Bearer {KEY}"]


@pytest.mark.parametrize(
    "said",
    [
        head("401 No", "Content-Length: 99") + f"invalid key {KEY}".ljust(99).encode(),
        head("200 OK", "Content-Length: 99") + f"invalid key {KEY}\n".ljust(99).encode(),
        events({"error": {"message": f"invalid key {KEY}"}}),
        head("200 OK", "Content-Length: 99")
        + json.dumps({"error": f"invalid key {KEY}"}).ljust(99).encode(),
        b"",
    ],
)
def test_the_key_is_in_no_error(
    protocol: str, wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    error = failure(lambda: ask(protocol, wire(said).url))
    assert KEY not in f"{error!s} {error!r}"


def test_a_proxy_is_for_servers_elsewhere(
    wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = wire(head("502 Bad Gateway", "Content-Length: 0"))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    with CaptionServer() as server:
        ask("ollama", server.url)
        ask("ollama", server.url.replace("127.0.0.1", "localhost"))
        assert proxy.heads == []
    assert failure(lambda: ask("ollama", "http://nobody.invalid")).kind == "server error (502)"
    assert proxy.heads[0].startswith("POST http://nobody.invalid/api/generate ")
