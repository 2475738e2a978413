"""A server that speaks Ollama's protocol over real llama.cpp inference on tiny random weights.

`python -m tests.ollama.server --port 0 --models tiny-vision` prints its URL when it is ready.
"""

import argparse
import ipaddress
import json
import os
import signal
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ollama import bodies, openai_routes, records, routes, shelf_routes
from tests.ollama.errors import ApiError
from tests.ollama.library import Library, stocked
from tests.ollama.openai_routes import OpenAiReply
from tests.ollama.reply import Reply
from tests.ollama.routes import Context

BUILD_TYPE = "text/plain; charset=utf-8"
GET = {
    "/api/version": lambda context: {"version": context.version},
    "/api/tags": lambda context: shelf_routes.tags(context.library),
    "/api/ps": lambda context: shelf_routes.ps(context.library),
    "/v1/models": lambda context: openai_routes.models(context.library),
}
POST = {
    "/api/generate": routes.generate,
    "/api/chat": routes.chat,
    "/api/show": shelf_routes.show,
    "/api/pull": shelf_routes.pull,
    "/api/delete": shelf_routes.delete,
    "/v1/chat/completions": openai_routes.completions,
}


class OllamaServer(ThreadingHTTPServer):
    """The server; its `records` and `context` are there for tests in the same process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: Context, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.context = context
        self.records = records.Records()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: OllamaServer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing; the records hold what there is to know."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        data = self._body()
        path = self.path.partition("?")[0]
        entry: dict[str, Any] = {}

        def done(status: int) -> None:
            entry.update(status=status, finished=time.time())

        reply = OpenAiReply(self, done) if path.startswith("/v1/") else Reply(self, done)
        if not _local(self.headers.get("Host", "")):
            reply.whole(403, b"", "")
        elif path.startswith("/test/"):
            self._control(path, json.loads(data or b"{}"), reply)
        else:
            self.server.records.begin(entry, self.command, path)
            try:
                self._answer(path, data, reply, entry)
            except ApiError as error:
                reply.error(error.status, error.text)
            except ConnectionError:
                self.close_connection = True
            finally:
                reply.end()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, path: str, data: bytes, reply: Reply, entry: dict[str, Any]) -> None:
        if self.command in ("GET", "HEAD"):
            if path == "/":
                reply.whole(200, b"Ollama is running", BUILD_TYPE)
            elif path in GET:
                Reply.json(reply, 200, GET[path](self.server.context))
            else:
                reply.whole(404, b"404 page not found", "text/plain")
            return
        wanted = "DELETE" if path == "/api/delete" else "POST"
        if path not in POST or self.command != wanted:
            reply.whole(404, b"404 page not found", "text/plain")
            return
        body = bodies.parse(data)
        if path.startswith("/v1/"):
            body = openai_routes.native_body(body)
        records.describe(entry, body)
        POST[path](self.server.context, body, reply, entry)

    def _control(self, path: str, body: dict[str, Any], reply: Reply) -> None:
        """What only tests ask for."""
        context = self.server.context
        if path == "/test/requests" and self.command == "DELETE":
            self.server.records.clear()
            reply.json(200, {})
        elif path == "/test/requests":
            reply.json(200, self.server.records.all())
        elif path == "/test/digest":
            reply.json(200, {"digest": _swap(context.library, body)})
        elif path == "/test/delete":
            context.library.delete(body["model"])
            reply.json(200, {})
        elif path == "/test/settings":
            for name in ("delay", "pull_seconds"):
                setattr(context, name, body.get(name, getattr(context, name)))
            context.library.queue = body.get("queue", context.library.queue)
            reply.json(200, {})


def _swap(library: Library, body: dict[str, Any]) -> str:
    """New weights under an old name, among the installed models or in the registry."""
    before = library.find(body["model"]) if body.get("to") != "registry" else None
    vision = body.get("vision", before is None or before.projector_file is not None)
    return library.add(body["model"], body["seed"], vision, body.get("to", "")).digest


def _local(host: str) -> bool:
    """Whether the Host header names this machine; other names are refused, against rebinding."""
    name = host.rsplit(":", 1)[0].strip("[]").lower()
    if name in ("", "localhost") or name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        return False


def main() -> None:
    """Serves until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    for name in ("models", "text-only", "pullable"):
        parser.add_argument(f"--{name}", type=_names, default=[])
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--queue", type=int, default=512)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--pull-seconds", type=float, default=0.0)
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if given.until_stdin_closes:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="ollama-test-") as folder:
        library = Library(Path(folder), given.parallel, given.queue)
        stocked(library, given.models, given.text_only, given.pullable)
        server = OllamaServer(Context(library, given.delay, given.pull_seconds), given.port)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        server.serve_forever()


def _end_with_parent() -> None:
    """A parent that dies closes the pipe, however it dies; nobody is left behind."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    main()
