"""A scripted caption server: Ollama's and OpenAI's protocols over real sockets, without a model.

    with CaptionServer({"tiny:latest": DIGEST}, [Fault.status(503), Fault.reset()]) as server:
        ...  # let a client ask server.url
    assert len(server.asked()) == 3

One event loop in one thread serves everything, so nothing here needs a lock. Functions that are
given to the server run in that thread and must be quick.
"""

import argparse
import asyncio
import base64
import binascii
import hashlib
import itertools
import json
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

DIGEST = hashlib.sha256(b"tiny").hexdigest()
BUSY = "server busy, please try again.  maximum pending requests exceeded"
STOPPED = "model runner has unexpectedly stopped, check ollama server logs for details"
NO_FILE = "pull model manifest: file does not exist"
WHEN = "2026-01-01T00:00:00Z"
JSON, NDJSON, SSE = "application/json; charset=utf-8", "application/x-ndjson", "text/event-stream"
OPENAI = "/v1/chat/completions"
ASKING = ("/api/generate", "/api/chat", OPENAI)
PULL_STEPS, PULL_BYTES = 10, 10 << 20
AT_ONCE = ("status", "drop", "reset", "garbage")
"""Faults for which no model works: the server's time per answer is not waited for."""
WORDS = [
    line.split()
    for line in """ weathered polished carved painted cracked mossy gilded faded
 timber stone brick iron glass linen leather straw
 red ochre green blue white black golden grey
 paint tiles plaster leaves petals rust feathers cloth
 soft harsh warm cold dim bright low diffuse""".splitlines()
]


def caption(picture: bytes, prompt: str) -> str:
    """What the server says by default: words that only the picture and the prompt decide."""
    found = hashlib.sha256(picture + prompt.encode()).digest()
    words = [row[byte % len(row)] for row, byte in zip(WORDS, found, strict=False)]
    return "{} {}, {} {}, {} light, {}".format(*words, found.hex()[:6])


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is treated; any of them can have `seconds` by `dataclasses.replace`."""

    kind: str = "ok"
    text: str | None = None
    """Of the answer or of the error."""
    seconds: float = 0.0
    """Before anything is sent; for `dribble`, between two lines."""
    code: int = 200
    retry_after: float | None = None
    thoughts: str = ""
    clean: bool = False
    """The broken stream ends as if it were complete."""

    ok = classmethod(lambda cls: cls())
    delay = classmethod(lambda cls, seconds: cls("delay", seconds=seconds))
    answer = classmethod(lambda cls, text: cls("answer", text))
    length = classmethod(lambda cls, text=None: cls("length", text))
    thinking = classmethod(
        lambda cls, thoughts, text=None: cls("thinking", text, thoughts=thoughts)
    )
    # The request is read, and then the connection ends: by FIN, or by RST.
    drop = classmethod(lambda cls: cls("drop"))
    reset = classmethod(lambda cls: cls("reset"))
    garbage = classmethod(lambda cls, text="{no JSON\0": cls("garbage", text))
    half_stream = classmethod(lambda cls, clean=False: cls("half_stream", clean=clean))
    mid_stream_error = classmethod(lambda cls, text=STOPPED: cls("mid_stream_error", text))
    hang = classmethod(lambda cls: cls("hang"))
    hang_mid_stream = classmethod(lambda cls: cls("hang_mid_stream"))
    dribble = classmethod(lambda cls, seconds: cls("dribble", seconds=seconds))

    @classmethod
    def status(cls, code: int, text: str = BUSY, retry_after: float | None = None) -> "Fault":
        """A text that begins with "<" is sent as it is, like the page of a proxy."""
        return cls("status", text, code=code, retry_after=retry_after)


Script = Fault | Sequence[Fault] | Mapping[str, Any] | Callable[[int, str], Fault]
"""A fault for ever; faults in turn, then none; a script by sha256 of the picture; or a function of
the number of the request (from 0) and that sha256."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came in, also one that was refused."""

    at: float
    """On the monotonic clock."""
    method: str
    path: str
    body: Mapping[str, Any]
    """Without the pictures."""
    images: tuple[str, ...]
    """The sha256 of each picture; of a light server, of a sample of it."""
    fault: Fault


@dataclass(frozen=True, slots=True)
class Reply:
    """A healthy answer; a fault decides how much of it is sent, and how."""

    parts: list[bytes]
    kind: str = JSON
    openai: bool = False
    asking: bool = False
    sent: Callable[[int], None] = field(default=lambda count: None)
    """Told how many parts are sent, just before: who has read them finds them done."""

    @property
    def streamed(self) -> bool:
        return self.kind in (NDJSON, SSE)

    def error(self, text: str) -> bytes:
        """An error as the protocol words it."""
        told = {"message": text, "type": "api_error", "param": None, "code": None}
        return _json({"error": told if self.openai else text})


class Refused(Exception):
    """A request that no healthy server would serve: status and text."""


class CaptionServer:
    """The server; `models` (digests by full name), `script` and `at` may be changed as it runs."""

    def __init__(
        self,
        models: Mapping[str, str] | None = None,
        script: Script = (),
        *,
        answer: str | Callable[[bytes, str], str] = caption,
        capabilities: Iterable[str] | None = ("completion", "vision"),
        registry: Mapping[str, str] | None = None,
        pulls: Script = (),
        at: Mapping[str, Fault] | None = None,
        parallel: int = 8,
        max_pending: int = 512,
        seconds: float = 0.0,
        light: bool = False,
        port: int = 0,
    ) -> None:
        """A server that is not started yet; its port is its own until `close`.

        Args:
            models: that it has.
            script: for requests that ask a model something.
            answer: to every question, or a function of picture and prompt.
            capabilities: of all models; None as old servers tell none.
            registry: models that can be pulled.
            pulls: script for `/api/pull`; what was sent of a broken pull is not sent again.
            at: a fault by path, for every request there; `Fault.answer` gives the whole body.
            parallel: questions answered at once; others wait.
            max_pending: questions that may wait; others are refused with 503.
            seconds: that each answer takes.
            light: pictures are not decoded; 256 bytes of their base64 stand for them.
            port: 0 for a free one.
        """
        self.models = dict({"tiny:latest": DIGEST} if models is None else models)
        self.script, self.pulls, self.at = _owned(script), _owned(pulls), dict(at or {})
        self.answer, self.capabilities = answer, capabilities
        self.registry = dict(registry or {})
        self.parallel, self.max_pending = parallel, max_pending
        self.seconds, self.light = seconds, light
        self.requests: list[Request] = []
        self.unloads: list[str] = []
        self.loaded: set[str] = set()
        self.open, self.most_at_once = 0, 0
        self.errors: list[BaseException] = []
        self.connections: set[Connection] = set()
        self._numbers, self._pulled = itertools.count(), dict[str, int]()
        self._thread: threading.Thread | None = None
        # Bound but never listening: while the server is stopped, nobody else gets its port.
        self._reserved = _bound(port)
        self.port = self._reserved.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "CaptionServer":
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> "CaptionServer":
        """Listens, again on the same port after `stop`; only loaded models are forgotten."""
        assert self._thread is None, "it runs already"
        listener, ready = _bound(self.port), threading.Event()
        work = self._serve(listener, ready)
        self._thread = threading.Thread(target=asyncio.run, args=(work,), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def stop(self) -> None:
        """Ends every connection at once and refuses new ones, as a server that was killed."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Stops and gives the port back; raises what went wrong in a function of the test."""
        self.stop()
        self._reserved.close()
        for error in self.errors:
            raise error

    def asked(self) -> list[Request]:
        """Requests with a picture, refused ones too."""
        return [request for request in list(self.requests) if request.images]

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._slots = asyncio.Semaphore(self.parallel)
        self.loaded.clear()
        server = await self._loop.create_server(
            lambda: Connection(self), sock=listener, backlog=512
        )
        ready.set()
        await self._ending.wait()
        server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def respond(self, connection: "Connection", method: str, path: str, raw: bytes) -> None:
        """Records a request and answers it, as the script wants."""
        reply = Reply([b""], openai=path.startswith("/v1/"))
        body: dict[str, Any] = {}
        pictures: dict[str, bytes] = {}
        try:
            body, pictures = _read_light(raw) if self.light else _read(raw)
            reply, fault = self._planned(method, path, body, pictures)
        except Refused as refused:
            fault = Fault.status(*refused.args)
        images = tuple(pictures)
        self.requests.append(Request(time.monotonic(), method, path, body, images, fault))
        if not reply.asking:
            await connection.play(fault, reply)
            return
        self.open += 1
        self.most_at_once = max(self.most_at_once, self.open)
        try:
            async with self._slots:
                await asyncio.sleep(0 if fault.kind in AT_ONCE else self.seconds)
                await connection.play(fault, reply)
        finally:
            self.open -= 1

    def _planned(
        self, method: str, path: str, body: dict[str, Any], pictures: dict[str, bytes]
    ) -> tuple[Reply, Fault]:
        """What a healthy server would answer, and the fault that it has instead."""
        name = self._known(body.get("model", ""))
        if path in ASKING and (body.get("prompt") or body.get("messages")):
            fault = self.at.get(path) or self._checked(name, body, pictures)
            reply = self._answered(path, body, pictures, fault)
        elif path in self.at and self.at[path].kind not in ("ok", "delay"):
            return Reply([b"{}"], openai=path.startswith("/v1/")), self.at[path]
        elif path == "/api/pull":
            reply, fault = self._pull(name, body.get("stream", True)), self._drawn(self.pulls, "")
        elif path in ASKING or path == "/api/show":
            reply, fault = self._about_model(path, name, body), Fault.ok()
        else:
            reply, fault = self._listed(f"{method.replace('HEAD', 'GET')} {path}"), Fault.ok()
        if _unloads(body):
            self.loaded.discard(name)
        return reply, self.at.get(path, fault)

    def _known(self, name: str) -> str:
        """Ollama compares names without case, and adds `:latest` where there is no tag."""
        if name in self.models:
            return name
        return name.lower() if ":" in name.rpartition("/")[2] else f"{name.lower()}:latest"

    def _checked(self, name: str, body: dict[str, Any], pictures: dict[str, bytes]) -> Fault:
        """Refuses what Ollama refuses, and takes the next fault of the script."""
        self._require(name, body)
        can = self.capabilities or ("vision", "thinking")
        if body.get("think") and "thinking" not in can:
            raise Refused(400, f'"{body["model"]}" does not support thinking')
        if pictures and "vision" not in can:
            raise Refused(500, NO_PICTURES)
        if self.open >= self.parallel + self.max_pending:
            raise Refused(503, BUSY)
        self.loaded.add(name)
        return self._drawn(self.script, next(iter(pictures), ""))

    def _require(self, name: str, body: dict[str, Any]) -> None:
        if not body:
            raise Refused(400, "missing request body")
        if name not in self.models:
            raise Refused(404, f"model '{body.get('model', '')}' not found")

    def _drawn(self, script: Any, sha: str) -> Fault:
        """The next fault of a script; lists are used up."""
        if isinstance(script, Mapping):
            return self._drawn(script.get(sha, []), sha)
        if callable(script):
            return script(next(self._numbers), sha)
        if isinstance(script, Fault):
            return script
        return script.pop(0) if script else Fault.ok()

    def _answered(
        self, path: str, body: dict[str, Any], pictures: dict[str, bytes], fault: Fault
    ) -> Reply:
        """The answer of the model; in a stream, one line per word and a last one."""
        text, openai = fault.text, path == OPENAI
        if text is None or fault.kind not in ("answer", "length", "thinking"):
            text = self.answer
        if callable(text):
            text = _shaped(text(b"".join(pictures.values()), _prompt(body)), body)
        say = partial(_said, path, body.get("model", ""))
        reason = "length" if fault.kind == "length" else "stop"
        if not body.get("stream", not openai):
            whole = _json(say(text, fault.thoughts, reason, whole=True))
            return Reply([whole], openai=openai, asking=True)
        parts = [say("", word) for word in _words(fault.thoughts)]
        parts += [say(word) for word in _words(text)]
        lines = [_line(part, openai) for part in [*parts, say("", "", reason)]]
        lines[-1] += b"data: [DONE]\n\n" if openai else b""
        return Reply(lines, SSE if openai else NDJSON, openai, asking=True)

    def _about_model(self, path: str, name: str, body: dict[str, Any]) -> Reply:
        """Facts of a model, or a question without words, which loads or unloads it."""
        self._require(name, body)
        if path == "/api/show":
            facts = {"details": DETAILS, "model_info": {"llama.context_length": 4096}}
            can = self.capabilities
            return Reply([_json(facts if can is None else {**facts, "capabilities": [*can]})])
        if _unloads(body):
            self.unloads.append(name)
        else:
            self.loaded.add(name)
        return Reply([_json(_said(path, name, "", "", "unload" if _unloads(body) else "load"))])

    def _listed(self, what: str) -> Reply:
        """What can be asked without naming a model."""
        if what == "GET /":
            return Reply([b"Ollama is running"], "text/plain; charset=utf-8")
        facts = {
            "GET /api/version": {"version": "0.12.0"},
            "GET /api/tags": {"models": [self._model(name) for name in self.models]},
            "GET /api/ps": {"models": [self._model(name) for name in sorted(self.loaded)]},
            "GET /v1/models": {
                "object": "list",
                "data": [{"id": name, "object": "model"} for name in self.models],
            },
        }
        if what not in facts:
            raise Refused(404, "404 page not found")
        return Reply([_json(facts[what])])

    def _model(self, name: str) -> dict[str, Any]:
        facts = {"name": name, "model": name, "digest": self.models[name], "details": DETAILS}
        return {**facts, "modified_at": WHEN, "size": PULL_BYTES}

    def _pull(self, name: str, streamed: bool) -> Reply:
        """The lines of a download; it goes on where the last one of this model broke."""
        digest = {**self.registry, **self.models}.get(name)
        if digest is None and not streamed:
            raise Refused(500, NO_FILE)
        if digest is None:
            return Reply([_line({"status": "pulling manifest"}), _line({"error": NO_FILE})], NDJSON)
        before = PULL_STEPS if name in self.models else self._pulled.get(name, 0)
        lines = _download(digest, before)

        def sent(count: int) -> None:
            self._pulled[name] = max(before, min(before + count - 2, PULL_STEPS))
            if count == len(lines) or not streamed:
                self.models[name] = digest

        if streamed:
            return Reply(lines, NDJSON, sent=sent)
        return Reply([_json({"status": "success"})], sent=sent)


class Connection(asyncio.Protocol):
    """Cuts what comes into requests; each is answered in a task that ends when the client goes."""

    transport: asyncio.Transport

    def __init__(self, server: CaptionServer) -> None:
        self._server, self._data = server, bytearray()
        self._task: asyncio.Task[None] | None = None
        self._head: list[str] = []
        self._need, self._bodiless, self._last = 0, False, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._task is None:
            self._take()

    def _take(self) -> None:
        """Starts to answer the next request, if all of it is there."""
        if not self._head:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = self._data[:end].decode("latin-1").split("\r\n")
            del self._data[: end + 4]
            headers = dict(line.lower().split(": ", 1) for line in self._head[1:] if ": " in line)
            self._need = int(headers.get("content-length", 0))
            self._last = headers.get("connection") == "close"
        if len(self._data) < self._need:
            return
        # Mostly the body is all there is: then it is not copied.
        raw, self._data = self._data, self._data[self._need :]
        del raw[self._need :]
        method, target, *_ = [*self._head[0].split(" "), "", ""]
        self._head, self._bodiless = [], method == "HEAD"
        work = self._server.respond(self, method, target.partition("?")[0], raw)
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if task.cancelled():
            return
        if error := task.exception():
            self._server.errors.append(error)
            self.transport.abort()
        elif self._last:
            self.transport.close()
        elif self._data:
            self._take()

    async def play(self, fault: Fault, reply: Reply) -> None:
        """Sends an answer, or what the fault makes of it."""
        if fault.seconds and fault.kind != "dribble":
            await asyncio.sleep(fault.seconds)
        await PLAYS.get(fault.kind, Connection.whole)(self, fault, reply)

    async def whole(self, fault: Fault, reply: Reply) -> None:
        parts = reply.parts
        if fault.kind == "answer" and not reply.asking:
            parts = [(fault.text or "").encode()]
        reply.sent(len(parts))
        if reply.streamed:
            self._send(200, {"Content-Type": reply.kind}, *map(_chunk, parts), b"0\r\n\r\n")
        else:
            self._send_whole(200, b"".join(parts), reply.kind)

    async def drop(self, fault: Fault, reply: Reply) -> None:
        self.transport.close()

    async def reset(self, fault: Fault, reply: Reply) -> None:
        linger = struct.pack("ii", 1, 0)
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    async def status(self, fault: Fault, reply: Reply) -> None:
        text = fault.text or ""
        wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        if text.startswith("<"):
            self._send_whole(fault.code, text.encode(), "text/html", wait)
        else:
            self._send_whole(fault.code, reply.error(text), JSON, wait)

    async def garbage(self, fault: Fault, reply: Reply) -> None:
        self._send_whole(200, (fault.text or "").encode(), reply.kind)

    async def half_stream(self, fault: Fault, reply: Reply) -> None:
        self._half(reply)
        if fault.clean and reply.streamed:
            self.transport.write(b"0\r\n\r\n")
        else:
            self.transport.close()

    async def mid_stream_error(self, fault: Fault, reply: Reply) -> None:
        text = fault.text or ""
        if not reply.streamed:
            self._send_whole(500, reply.error(text), JSON)
            return
        self._half(reply)
        line = _line(json.loads(reply.error(text)), reply.openai)
        self.transport.write(_chunk(line) + b"0\r\n\r\n")

    async def hang(self, fault: Fault, reply: Reply) -> None:
        await asyncio.get_running_loop().create_future()

    async def hang_mid_stream(self, fault: Fault, reply: Reply) -> None:
        self._half(reply)
        await self.hang(fault, reply)

    async def dribble(self, fault: Fault, reply: Reply) -> None:
        """Words without an end; lines of a pull come to theirs."""
        self._send(200, {"Content-Type": reply.kind})
        # Blanks are all that can be added to an object for ever.
        words = itertools.cycle(reply.parts[:-1] or [b"\n"]) if reply.asking else reply.parts
        for count, part in enumerate(words, 1):
            await asyncio.sleep(fault.seconds)
            reply.sent(count)
            self.transport.write(_chunk(part))
        self.transport.write(b"0\r\n\r\n")

    def _half(self, reply: Reply) -> None:
        """Sends the first half, never the last line."""
        if reply.streamed:
            half = len(reply.parts) // 2
            reply.sent(half)
            self._send(200, {"Content-Type": reply.kind}, *map(_chunk, reply.parts[:half]))
            return
        body = b"".join(reply.parts)
        length = {"Content-Type": reply.kind, "Content-Length": str(len(body))}
        self._send(200, length, body[: len(body) // 2])

    def _send_whole(
        self, code: int, body: bytes, kind: str, more: Mapping[str, str] | None = None
    ) -> None:
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}
        self._send(code, headers, b"" if self._bodiless else body)

    def _send(self, code: int, headers: Mapping[str, str], *pieces: bytes) -> None:
        """Head and pieces in one write; without a length the body is chunked."""
        lines = [f"HTTP/1.1 {code} {PHRASES.get(code, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if "Content-Length" not in headers:
            lines.append("Transfer-Encoding: chunked")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + b"".join(pieces))


PLAYS = {
    name: getattr(Connection, name)
    for name in (*AT_ONCE, "half_stream", "mid_stream_error", "hang", "hang_mid_stream", "dribble")
}
ENCODER = json.JSONEncoder(separators=(",", ":"))
PHRASES = {status.value: status.phrase for status in HTTPStatus}
DETAILS = {"format": "gguf", "family": "llama", "families": ["llama", "clip"]}
NO_PICTURES = (
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _owned(script: Script) -> Any:
    """Lists of a script are used up; those of the test are not to be."""
    if isinstance(script, Mapping):
        return {sha: _owned(one) for sha, one in script.items()}
    return script if isinstance(script, Fault) or callable(script) else list(script)


def _unloads(body: Mapping[str, Any]) -> bool:
    return body.get("keep_alive") in (0, "0", "0s")


def _download(digest: str, before: int) -> list[bytes]:
    """The lines of a pull of which so many steps were done before."""
    layer = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": PULL_BYTES}
    steps = [
        {**layer, "completed": PULL_BYTES * step // PULL_STEPS} if step else layer
        for step in range(before, PULL_STEPS + 1)
    ]
    ends = [{"status": text} for text in ("verifying sha256 digest", "writing manifest", "success")]
    return [_line(part) for part in [{"status": "pulling manifest"}, *steps, *ends]]


def _read(raw: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The body without its pictures, and these by sha256."""
    try:
        body = json.loads(raw) if raw else {}
    except ValueError as error:
        raise Refused(400, f"invalid character: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "json: cannot unmarshal the body into an object")
    coded: list[str] = []
    for holder in (body, *body.get("messages", ())):
        coded += holder.pop("images", None) or ()
        content = holder.get("content")
        for part in content if isinstance(content, list) else ():
            if "image_url" in part:
                coded.append(part.pop("image_url")["url"].partition(";base64,")[2])
    try:
        return body, _hashed(base64.b64decode(one, validate=True) for one in coded)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, f"illegal base64 data at input byte 0: {error}") from error


def _hashed(pictures: Iterable[bytes]) -> dict[str, bytes]:
    return {hashlib.sha256(picture).hexdigest(): picture for picture in pictures}


def _read_light(raw: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The same for one picture, of which 256 bytes of base64 from its middle stand for it."""
    at = raw.find(b'"images"')
    start = raw.find(b'"', at + 8) + 1 if at >= 0 else raw.find(b";base64,") + 8
    end = raw.find(b'"', start)
    if start < 8 or end < 0:
        return _read(raw)
    middle = (start + end) // 2
    sample = bytes(raw[max(start, middle - 128) : min(end, middle + 128)])
    body, _ = _read(raw[:start] + raw[end:])
    return body, _hashed([sample])


def _prompt(body: Mapping[str, Any]) -> str:
    """What the user says, without the system prompt."""
    said = [body.get("prompt") or ""]
    for message in body.get("messages", ()):
        content = message.get("content", "")
        parts = [{"text": content}] if isinstance(content, str) else content
        if message.get("role") == "user":
            said += [part["text"] for part in parts if "text" in part]
    return "".join(said)


def _shaped(text: str, body: Mapping[str, Any]) -> str:
    """The text, or the JSON object that a schema asks for with the text as every property."""
    schema = body.get("format") or body.get("response_format", {}).get("json_schema", {})
    if not schema:
        return text
    schema = schema if isinstance(schema, Mapping) else {}
    properties = schema.get("schema", schema).get("properties", {"caption": {}})
    kinds = {"array": [text], "integer": 1, "number": 1, "boolean": True}
    said = {
        name: one["enum"][0] if "enum" in one else kinds.get(one.get("type"), text)
        for name, one in properties.items()
    }
    return json.dumps(said)


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def _json(value: Any) -> bytes:
    return ENCODER.encode(value).encode()


def _line(part: Any, openai: bool = False) -> bytes:
    return b"data: " + _json(part) + b"\n\n" if openai else _json(part) + b"\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _said(
    path: str, model: str, text: str, thoughts: str = "", reason: str = "", whole: bool = False
) -> dict[str, Any]:
    """One object of an answer; with a reason to end it is the last."""
    if path == OPENAI:
        said = {"role": "assistant", "content": text}
        said |= {"reasoning": thoughts} if thoughts else {}
        part = {"message" if whole else "delta": said, "finish_reason": reason or None}
        kind = "chat.completion" if whole else "chat.completion.chunk"
        return {"id": "1", "object": kind, "model": model, "choices": [{"index": 0, **part}]}
    content = "response" if path == "/api/generate" else "content"
    said = {content: text} | ({"thinking": thoughts} if thoughts else {})
    if path == "/api/chat":
        said = {"message": {"role": "assistant", **said}}
    end = {"done_reason": reason, "total_duration": 1000, "eval_count": 8} if reason else {}
    return {"model": model, "created_at": WHEN, **said, "done": bool(reason), **end}


def main() -> None:
    """Serves until it is told to end; prints its address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.0, help="that each answer takes")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="tiny:latest")
    parser.add_argument("--light", action="store_true", help="does not look into pictures")
    options = vars(parser.parse_args())
    # Blocked before the thread starts, so that they come to `sigwait` alone.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with CaptionServer({options.pop("model"): DIGEST}, **options) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
