"""Servers that answer a refused exclusive create in their own ways."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from storage.errors import UnsupportedStoreError
from storage.s3_files import S3Files
from storage.store import open_store


class Server(ThreadingHTTPServer):
    """A loopback S3 that holds nothing and answers each PUT with the next of `answers`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, str]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, code = self.server.answers.pop(0) if self.server.answers else (200, "")
        self._answer(status, code)

    def do_GET(self) -> None:
        self._answer(404, "NoSuchKey")

    def do_HEAD(self) -> None:
        self._answer(404, "")

    def do_DELETE(self) -> None:
        self._answer(204, "")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, code: str) -> None:
        # Like Ceph: no <Condition> in the answer.
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_refusal_without_its_condition_means_exists(server: Server) -> None:
    server.answers = [(412, "PreconditionFailed")]
    assert not S3Files("bucket/prefix").put_if_absent("x", b"1")


def test_a_conflict_is_tried_again(server: Server) -> None:
    server.answers = [(409, "ConditionalRequestConflict")] * 2
    assert S3Files("bucket/prefix").put_if_absent("x", b"1")
    assert server.answers == []


def test_a_server_that_ignores_conditions_is_refused(server: Server) -> None:
    with pytest.raises(UnsupportedStoreError, match="If-None-Match"):
        open_store("s3://bucket/prefix")
