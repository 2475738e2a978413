"""How an answer goes out: one JSON document, or lines as they come, in the native protocol."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

JSON = "application/json; charset=utf-8"


class Reply:
    """The answer to one request; `line` starts a chunked stream, `json` is a whole answer.

    `done` is told the status before the last byte leaves.
    """

    stream_type = "application/x-ndjson"

    def __init__(self, handler: BaseHTTPRequestHandler, done: Callable[[int], None]) -> None:
        self._handler = handler
        self._done = done
        self.started = False
        self.streaming = False
        self.status = 0

    def whole(self, status: int, data: bytes, kind: str) -> None:
        """Sends a complete answer."""
        self.started, self.status = True, status
        self._done(status)
        self._handler.send_response(status)
        if kind:
            self._handler.send_header("Content-Type", kind)
        self._handler.send_header("Content-Length", str(len(data)))
        self._handler.end_headers()
        if self._handler.command != "HEAD":
            self._handler.wfile.write(data)

    def json(self, status: int, document: Any) -> None:
        """Sends one JSON document."""
        self.whole(status, json.dumps(document, ensure_ascii=False).encode(), JSON)

    def error(self, status: int, text: str) -> None:
        """An error: with its status before anything was sent, as a line afterwards."""
        if self.started:
            self.line({"error": text})
        else:
            self.json(status, {"error": text})

    def line(self, document: dict[str, Any]) -> bool:
        """Sends one event of a stream; False where nobody listens any more."""
        return self.chunk(json.dumps(document, ensure_ascii=False).encode() + b"\n")

    def chunk(self, data: bytes) -> bool:
        """Sends raw bytes of a stream."""
        try:
            if not self.started:
                self.started = self.streaming = True
                self.status = 200
                self._handler.send_response(200)
                self._handler.send_header("Content-Type", self.stream_type)
                self._handler.send_header("Transfer-Encoding", "chunked")
                self._handler.end_headers()
            self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except ConnectionError:
            self._handler.close_connection = True
            return False
        return True

    def end(self) -> None:
        """Ends a stream that was started."""
        self._done(self.status)
        if not self.streaming:
            return
        try:
            self._handler.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self._handler.close_connection = True
