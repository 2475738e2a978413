"""The caption server of the fault tests: what it says it does is seen on the wire."""

import base64
import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ollama
import pytest
import requests

from tests.caption_server import BUSY, DIGEST, CaptionServer, Fault, caption
from tests.server_fixtures import ROOT, wait_for

PICTURE = b"\xff\xd8 a picture"
SHA = hashlib.sha256(PICTURE).hexdigest()
TINY = {"tiny:latest": DIGEST}


def question(picture: bytes = PICTURE, **more: Any) -> dict[str, Any]:
    images = [base64.b64encode(picture).decode()]
    return {"model": "tiny", "prompt": "What is it?", "images": images, **more}


def ask(server: CaptionServer, seconds: float = 3.0, **more: Any) -> requests.Response:
    body = question(**more)
    return requests.post(f"{server.url}/api/generate", json=body, timeout=seconds, stream=True)


def parts(reply: requests.Response) -> list[dict[str, Any]]:
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.iter_lines()]


def text(reply: requests.Response) -> str:
    found = parts(reply)
    assert [part["done"] for part in found] == [False] * (len(found) - 1) + [True]
    return "".join(part["response"] for part in found)


def chat_body(**more: Any) -> dict[str, Any]:
    url = f"data:image/jpeg;base64,{base64.b64encode(PICTURE).decode()}"
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return {"model": "tiny:latest", "messages": [{"role": "user", "content": content}], **more}


def chat(server: CaptionServer, **more: Any) -> requests.Response:
    url = f"{server.url}/v1/chat/completions"
    return requests.post(url, json=chat_body(**more), timeout=3, stream=True)


def events(reply: requests.Response) -> list[Any]:
    assert reply.headers["Content-Type"] == "text/event-stream"
    lines = [line.removeprefix(b"data: ") for line in reply.iter_lines() if line]
    return [line if line == b"[DONE]" else json.loads(line) for line in lines]


@pytest.fixture
def serve() -> Iterator[Callable[..., CaptionServer]]:
    """Starts servers, and sees to it that each ends quickly."""
    servers: list[CaptionServer] = []

    def start(script: Any = (), **options: Any) -> CaptionServer:
        servers.append(CaptionServer(TINY, script, **options).start())
        return servers[-1]

    yield start
    for server in servers:
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 0.5


Serve = Callable[..., CaptionServer]


def test_a_healthy_answer(serve: Serve) -> None:
    server = serve()
    said = text(ask(server))
    assert said == caption(PICTURE, "What is it?")
    assert len(set(said.split())) == 7
    whole = ask(server, stream=False).json()
    assert (whole["response"], whole["done"], whole["done_reason"]) == (said, True, "stop")
    assert text(ask(server, picture=b"another")) != said != text(ask(server, prompt="Which?"))
    first = server.asked()[0]
    assert first.body == {"model": "tiny", "prompt": "What is it?"}
    assert (first.images, first.path, first.fault) == ((SHA,), "/api/generate", Fault.ok())
    assert len(server.asked()) == len(server.requests) == 4


def test_what_a_server_tells_of_itself(serve: Serve) -> None:
    server = serve(capabilities=("completion", "vision", "thinking"))
    assert requests.get(server.url, timeout=3).text == "Ollama is running"
    head = requests.head(server.url, timeout=3)
    assert (head.status_code, head.text) == (200, "")
    assert "version" in requests.get(f"{server.url}/api/version", timeout=3).json()
    (model,) = requests.get(f"{server.url}/api/tags", timeout=3).json()["models"]
    assert (model["name"], model["digest"]) == ("tiny:latest", DIGEST)
    show = requests.post(f"{server.url}/api/show", json={"model": "TINY"}, timeout=3).json()
    assert show["capabilities"] == ["completion", "vision", "thinking"]
    (known,) = requests.get(f"{server.url}/v1/models", timeout=3).json()["data"]
    assert known["id"] == "tiny:latest"
    assert requests.get(f"{server.url}/api/nothing", timeout=3).status_code == 404


def test_models_are_loaded_and_unloaded(serve: Serve) -> None:
    server = serve()

    def loaded() -> list[str]:
        found = requests.get(f"{server.url}/api/ps", timeout=3).json()["models"]
        return [model["name"] for model in found]

    url, body = f"{server.url}/api/generate", {"model": "tiny"}
    assert loaded() == []
    assert requests.post(url, json=body, timeout=3).json()["done_reason"] == "load"
    assert loaded() == ["tiny:latest"]
    end = requests.post(url, json={**body, "keep_alive": 0}, timeout=3).json()
    assert (end["done"], end["done_reason"]) == (True, "unload")
    assert (loaded(), server.unloads, server.asked()) == ([], ["tiny:latest"], [])


def test_the_official_client_understands_it(serve: Serve) -> None:
    server = serve([Fault.ok(), Fault.thinking("well then", "a barn"), Fault.status(503)])
    server.registry["big:latest"] = "b" * 64
    with ollama.Client(server.url, trust_env=False) as client:
        assert client.list().models[0].digest == DIGEST
        asking: dict[str, Any] = {"model": "tiny", "prompt": "What is it?", "images": [PICTURE]}
        said = [part.response for part in client.generate(**asking, stream=True)]
        assert "".join(said) == caption(PICTURE, "What is it?")
        message = {"role": "user", "content": "What is it?", "images": [PICTURE]}
        answer = client.chat(model="tiny", messages=[message]).message
        assert (answer.content, answer.thinking) == ("a barn", "well then")
        with pytest.raises(ollama.ResponseError, match="maximum pending requests") as refused:
            client.generate(**asking)
        assert refused.value.status_code == 503
        assert [part.status for part in client.pull("big", stream=True)][-1] == "success"
    assert {request.images for request in server.asked()} == {(SHA,)}


def test_openai(serve: Serve) -> None:
    faults = [Fault.ok(), Fault.ok(), Fault.length("cut"), Fault.mid_stream_error("lost")]
    server = serve([*faults, Fault.status(400, "no"), Fault.half_stream()])
    whole = chat(server).json()["choices"][0]
    assert (whole["message"]["content"], whole["finish_reason"]) == (
        caption(PICTURE, "What is it?"),
        "stop",
    )
    *said, end, done = events(chat(server, stream=True))
    pieces = [part["choices"][0]["delta"]["content"] for part in said]
    assert "".join(pieces) == whole["message"]["content"]
    assert (end["choices"][0]["finish_reason"], done) == ("stop", b"[DONE]")
    assert events(chat(server, stream=True))[-2]["choices"][0]["finish_reason"] == "length"
    assert events(chat(server, stream=True))[-1]["error"]["message"] == "lost"
    refused = chat(server)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "no")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        events(chat(server, stream=True))
    assert server.asked()[0].body["messages"][0]["content"][0]["text"] == "What is it?"
    assert server.asked()[0].images == (SHA,)


def test_answers_are_chosen(serve: Serve) -> None:
    faults = [Fault.answer("one"), Fault.answer(""), Fault.length("cut off"), Fault.length()]
    server = serve([*faults, Fault.thinking("hm, a barn", "a barn")])
    assert [text(ask(server)), text(ask(server))] == ["one", ""]
    assert parts(ask(server))[-1]["done_reason"] == "length"
    assert text(ask(server)) == caption(PICTURE, "What is it?")
    found = parts(ask(server))
    assert "".join(part.get("thinking", "") for part in found) == "hm, a barn"
    assert "".join(part["response"] for part in found) == "a barn"
    assert text(ask(serve(answer="always"))) == "always"
    mine = serve(answer=lambda picture, prompt: f"{len(picture)} {prompt}")
    assert text(ask(mine)) == f"{len(PICTURE)} What is it?"
    kinds = {"text": {"type": "string"}, "tags": {"type": "array"}, "mood": {"enum": ["calm"]}}
    shaped = json.loads(text(ask(server, format={"type": "object", "properties": kinds})))
    said = caption(PICTURE, "What is it?")
    assert shaped == {"text": said, "tags": [said], "mood": "calm"}
    assert json.loads(text(ask(server, format="json"))) == {"caption": said}


def test_connections_break(serve: Serve) -> None:
    """By FIN and by RST, as a bare socket sees them, and as the client does."""
    server = serve([Fault.drop(), Fault.reset()] * 2)
    body = json.dumps(question()).encode()
    request = b"POST /api/generate HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", server.port), timeout=3) as raw:
        raw.sendall(request)
        assert raw.recv(1) == b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=3) as raw:
        raw.sendall(request)
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
    with pytest.raises(requests.ConnectionError, match="without response"):
        ask(server)
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        ask(server)
    assert [request.fault.kind for request in server.asked()] == ["drop", "reset"] * 2


@pytest.mark.parametrize("code", [400, 404, 429, 500, 503])
def test_statuses(serve: Serve, code: int) -> None:
    reply = ask(serve([Fault.status(code, "no luck", retry_after=2)]))
    assert (reply.status_code, reply.json()) == (code, {"error": "no luck"})
    assert reply.headers["Retry-After"] == "2"


def test_a_page_of_a_proxy_and_garbage(serve: Serve) -> None:
    server = serve([Fault.status(502, "<h1>Bad Gateway"), Fault.garbage()])
    page = ask(server)
    assert (page.status_code, page.text) == (502, "<h1>Bad Gateway")
    reply = ask(server)
    assert reply.status_code == 200
    with pytest.raises(ValueError, match="property name"):
        json.loads(reply.content)


def test_streams_end_too_early(serve: Serve) -> None:
    kinds = [Fault.half_stream(), Fault.half_stream(clean=True), Fault.mid_stream_error("broken")]
    server = serve([*kinds, Fault.half_stream(), Fault.mid_stream_error("broken")])
    reply = ask(server)
    lines = reply.iter_lines()
    assert json.loads(next(lines))["done"] is False
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(lines)
    assert [part["done"] for part in parts(ask(server))] == [False] * 4
    reply = ask(server)
    assert (reply.status_code, parts(reply)[-1]) == (200, {"error": "broken"})
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="bytes read"):
        _ = ask(server, stream=False).content
    reply = ask(server, stream=False)
    assert (reply.status_code, reply.json()) == (500, {"error": "broken"})


def test_answers_are_late_or_never_come(serve: Serve) -> None:
    server = serve([Fault.delay(0.2), Fault.hang(), Fault.hang_mid_stream(), Fault.dribble(0.05)])
    began = time.monotonic()
    assert text(ask(server)) and time.monotonic() - began > 0.2
    with pytest.raises(requests.ReadTimeout):
        ask(server, 0.1)
    reply = ask(server, 0.1)
    assert reply.status_code == 200
    with pytest.raises(requests.ConnectionError, match="Read timed out"):
        list(reply.iter_lines())
    wait_for(lambda: server.open == 0, 3)  # it notices that the client went
    with ask(server) as reply:
        began, lines = time.monotonic(), reply.iter_lines(chunk_size=1)
        found = [json.loads(next(lines)) for _ in range(8)]  # more than the answer has
        assert time.monotonic() - began > 0.35
        assert not any(part["done"] for part in found)


def test_scripts(serve: Serve) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    script = {SHA: Fault.answer("always"), other: [Fault.status(500), Fault.answer("then")]}
    server = serve(script)
    assert [text(ask(server)) for _ in range(2)] == ["always"] * 2
    assert ask(server, picture=b"other").status_code == 500
    assert text(ask(server, picture=b"other")) == "then"
    assert text(ask(server, picture=b"other")) == caption(b"other", "What is it?")
    assert len(script[other]) == 2  # the list of the test is not used up
    counted = serve(lambda number, sha: Fault.answer(f"{number} {sha[:6]}"))
    assert [text(ask(counted)) for _ in range(2)] == [f"0 {SHA[:6]}", f"1 {SHA[:6]}"]
    server.script = [dataclasses.replace(Fault.answer("late"), seconds=0.1)]
    began = time.monotonic()
    assert text(ask(server)) == "late" and time.monotonic() - began > 0.1


def test_faults_at_other_paths(serve: Serve) -> None:
    faults = {"/api/tags": Fault.status(500, "no tags"), "/api/version": Fault.answer("<html>")}
    server = serve(at={**faults, "/api/ps": Fault.delay(0.1), "/v1/models": Fault.drop()})
    assert requests.get(f"{server.url}/api/tags", timeout=3).json() == {"error": "no tags"}
    assert requests.get(f"{server.url}/api/version", timeout=3).text == "<html>"
    late = requests.get(f"{server.url}/api/ps", timeout=3)
    assert late.elapsed.total_seconds() > 0.1
    assert late.json() == {"models": []}
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/v1/models", timeout=3)


def test_a_function_of_the_test_that_fails_is_not_hidden() -> None:
    def fail(number: int, sha: str) -> Fault:
        raise LookupError("a mistake in a test")

    server = CaptionServer(TINY, fail).start()
    with pytest.raises(requests.ConnectionError):
        ask(server)
    with pytest.raises(LookupError, match="a mistake"):
        server.close()


def test_refusals(serve: Serve) -> None:
    server = serve(capabilities=["completion"])
    url = f"{server.url}/api/generate"
    for body, code, told in (
        (b"", 400, "missing request body"),
        (b"{x", 400, "invalid character"),
        (b"[]", 400, "cannot unmarshal"),
        (json.dumps({"model": "none", "prompt": "x"}), 404, "model 'none' not found"),
        (json.dumps(question() | {"images": ["=?="]}), 400, "illegal base64 data"),
        (json.dumps(question(think=True)), 400, '"tiny" does not support thinking'),
        (json.dumps(question()), 500, "image input is not supported"),
    ):
        reply = requests.post(url, data=body, timeout=3)
        assert reply.status_code == code
        assert told in reply.json()["error"]
    assert server.requests[-1].fault.code == 500


def test_pulls_go_on_where_they_broke(serve: Serve) -> None:
    server = serve(registry={"big:latest": "b" * 64})
    server.pulls = [Fault.half_stream(), Fault.dribble(0.005)]

    def pull(name: str, **more: Any) -> requests.Response:
        body = {"model": name, **more}
        return requests.post(f"{server.url}/api/pull", json=body, timeout=3, stream=True)

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(pull("big").iter_lines())
    assert list(server.models) == ["tiny:latest"]
    found = parts(pull("big"))
    assert found[0] == {"status": "pulling manifest"}
    steps = [part.get("completed", 0) / part["total"] for part in found if "total" in part]
    assert (steps[0], steps[-1], sorted(steps)) == (0.5, 1.0, steps)
    assert found[-1] == {"status": "success"}
    assert server.models["big:latest"] == "b" * 64
    assert len([part for part in parts(pull("big")) if "total" in part]) == 1
    assert parts(pull("none"))[-1] == {"error": "pull model manifest: file does not exist"}
    assert pull("none", stream=False).status_code == 500
    server.registry["other:latest"] = "c" * 64
    assert pull("other", stream=False).json() == {"status": "success"}
    assert "other:latest" in server.models


def test_a_server_comes_back_on_its_port(serve: Serve) -> None:
    server = serve([Fault.ok(), Fault.hang(), Fault.answer("still the script")])
    with requests.Session() as session, ThreadPoolExecutor() as pool:
        url, body = f"{server.url}/api/generate", question()
        assert session.post(url, json=body, timeout=3).ok
        hanging = pool.submit(requests.post, url, json=body, timeout=9)
        wait_for(lambda: len(server.asked()) == 2, 3)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 0.5
        with pytest.raises(requests.ConnectionError):
            hanging.result(1)
        for _ in range(2):
            with pytest.raises(requests.ConnectionError, match="refused"):
                requests.get(server.url, timeout=3)
        server.start()
        assert text(session.post(url, json=body, timeout=3, stream=True)) == "still the script"
    assert len(server.asked()) == 3


def test_only_so_many_at_once(serve: Serve) -> None:
    server = serve(parallel=2, max_pending=1, seconds=0.2)
    with ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        replies = list(pool.map(lambda _: ask(server), range(4)))
    assert 0.4 < time.monotonic() - began < 0.8
    assert sorted(reply.status_code for reply in replies) == [200, 200, 200, 503]
    (busy,) = [reply for reply in replies if reply.status_code == 503]
    assert busy.json() == {"error": BUSY}
    assert server.most_at_once == 3
    assert [request.fault.code for request in server.asked()].count(503) == 1


def test_it_ends_although_requests_hang() -> None:
    threads = threading.active_count()
    with CaptionServer(TINY, Fault.hang()) as server, ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask, server, 9.0)
        wait_for(lambda: server.open == 4, 3)
        began = time.monotonic()
        server.close()
    assert time.monotonic() - began < 0.5
    assert threading.active_count() == threads


def test_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.caption_server", "--light", "--seconds", "0.05"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ}, **pipes) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        body = question(os.urandom(9000))
        asked = [requests.post(f"{url}/api/generate", json=body, timeout=3) for _ in range(2)]
        other = requests.post(f"{url}/api/generate", json=question(os.urandom(9000)), timeout=3)
        again = requests.post(f"{url}/v1/chat/completions", json=chat_body(), timeout=3)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=3) == ("", "")
    assert process.returncode == 0
    assert asked[0].text == asked[1].text != other.text
    assert all(reply.elapsed.total_seconds() > 0.05 for reply in [*asked, other, again])
    assert again.json()["choices"][0]["message"]["content"]
