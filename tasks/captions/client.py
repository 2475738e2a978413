"""Client: requests to one caption server, each with a time limit and a kind of failure."""

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

KEY_VARIABLE = "TILEWRIGHT_CAPTION_API_KEY"
CONNECT_SECONDS = 5.0
PICTURE = f"picture {uuid4().hex}"
"""Stands for the picture in a body; nobody can have written it into a prompt."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_MOST_ERROR_BYTES, _MOST_AT_ONCE = 4096, 65536
BUSY = (429, 503)
FOREVER = (401, 403, 404)
"""Statuses that no other request to this server would do without."""


class CallError(Exception):
    """A request that failed.

    Attributes:
        kind: for counting, such as "time-out".
        retry: whether the same request may succeed later.
        away: the server itself cannot be reached or does not answer.
        forever: this server can answer no request at all: no such model, no permission.
        retry_after: seconds that the server asks to wait for.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        retry: bool = True,
        away: bool = False,
        forever: bool = False,
        retry_after: float | None = None,
    ) -> None:
        # Some servers repeat the key that they do not like.
        key = os.environ.get(KEY_VARIABLE)
        super().__init__(message.replace(key, "***") if key else message)
        self.kind, self.retry, self.away, self.forever = kind, retry, away, forever
        self.retry_after = retry_after


def is_on_this_machine(url: str) -> bool:
    """Whether the address of a server is one of this machine."""
    return urlsplit(url).hostname in _LOOPBACK


class Server:
    """One caption server, as one thread talks to it (sessions are not to be shared)."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        # Proxies of the environment are for servers elsewhere.
        self._session.trust_env = not is_on_this_machine(url)
        self._session.headers["Content-Type"] = "application/json"
        self._session.auth = _with_key  # without one, requests would look into .netrc

    def get(self, path: str, seconds: float) -> Any:
        """The JSON of a GET request."""
        return self._json("GET", path, None, seconds)

    def post(self, path: str, body: Mapping[str, Any], seconds: float) -> Any:
        """The JSON of a POST request."""
        return self._json("POST", path, body, seconds)

    def stream(
        self, path: str, body: Mapping[str, Any] | bytes, seconds: float, *, idle: bool = False
    ) -> Iterator[bytes]:
        """The lines of the answer to a POST request as they come, blank ones left out.

        Args:
            path: below the server's address.
            body: sent as JSON; bytes are JSON already.
            seconds: that the whole answer may take; with `idle`, that may pass between two lines.
            idle: see `seconds`.

        Raises:
            CallError: the request failed, before or amid the answer.
        """
        with self._response("POST", path, body, seconds) as (response, deadline):
            rest = b""
            for chunk in _chunks(response, deadline, seconds if idle else None):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from filter(None, map(bytes.strip, lines))
            if rest.strip():
                yield rest.strip()

    def _json(self, method: str, path: str, body: Any, seconds: float) -> Any:
        with self._response(method, path, body, seconds) as (response, deadline):
            return parsed(b"".join(_chunks(response, deadline, None)))

    @contextmanager
    def _response(
        self, method: str, path: str, body: Any, seconds: float
    ) -> Iterator[tuple[requests.Response, float]]:
        """An answer whose status is good, and the moment on the monotonic clock it must end by."""
        deadline = time.monotonic() + seconds
        timeouts = (min(CONNECT_SECONDS, seconds), seconds)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with self._session.request(
                method, f"{self.url}{path}", data=data, stream=True, timeout=timeouts
            ) as response:
                if response.status_code >= 400:
                    raise _refused(response, deadline)
                yield response, deadline
        except (requests.RequestException, HTTPError) as error:
            raise _lost(error, seconds) from error


def _with_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    if key := os.environ.get(KEY_VARIABLE):
        request.headers["Authorization"] = f"Bearer {key}"
    return request


def with_picture(body: Mapping[str, Any], jpeg: bytes) -> bytes:
    """A body as JSON, with PICTURE in it replaced by the base64 of a picture.

    JSON would look at each of its characters for one to escape, which takes longer than all else.
    """
    return json.dumps(body).encode().replace(PICTURE.encode(), base64.b64encode(jpeg), 1)


def drain(lines: Iterator[bytes]) -> None:
    """Reads what is left of a complete answer, so that the connection can be used again."""
    with suppress(CallError):
        for _ in lines:
            pass


def parsed(data: bytes) -> Any:
    """The JSON object that a server sent."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CallError("garbage", f"the answer is no JSON: {data[:80]!r}") from error
    if not isinstance(value, dict):
        raise CallError("garbage", f"the answer is no JSON object: {data[:80]!r}")
    return value


def objects(part: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects that has a name in a JSON object; empty where there is none."""
    found = part.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise CallError("garbage", f"{name} is no list of objects: {str(found)[:80]}")
    return found


def _chunks(response: requests.Response, deadline: float, idle: float | None) -> Iterator[bytes]:
    """The bytes of an answer as they come, until the time is over."""
    while True:
        left = deadline - time.monotonic() if idle is None else idle
        if left <= 0:
            raise CallError("time-out", "the answer took too long", away=True)
        _wait_at_most(response, left)
        # Of an answer without chunks, requests would wait for the end.
        piece = response.raw.read1(_MOST_AT_ONCE, decode_content=True)
        if not piece:
            return
        yield piece


def _wait_at_most(response: requests.Response, seconds: float) -> None:
    """Makes the next read give up in time: the limit that was set first counts for each read."""
    connection = response.raw.connection
    if connection is not None and connection.sock is not None:
        connection.sock.settimeout(seconds)


def _refused(response: requests.Response, deadline: float) -> CallError:
    status = response.status_code
    told = _error_text(response, deadline)
    if status in BUSY:
        wait = _retry_after(response.headers.get("Retry-After"))
        return CallError(f"busy ({status})", told, retry_after=wait)
    if status >= 500 or status == 408:
        return CallError(f"server error ({status})", told)
    return CallError(f"refused ({status})", told, retry=False, forever=status in FOREVER)


def _error_text(response: requests.Response, deadline: float) -> str:
    """What the server says about its error: Ollama as a text, OpenAI's as an object."""
    data = b""
    with suppress(CallError, HTTPError):  # what came of it will do
        for piece in _chunks(response, deadline, None):
            data += piece
            if len(data) >= _MOST_ERROR_BYTES:
                break
    data = data[:_MOST_ERROR_BYTES]
    try:
        error = json.loads(data)["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError, RecursionError):
        text = data.decode("utf-8", "replace").strip()
    return str(text) or f"{response.status_code} {response.reason}"


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait; dates are not understood."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _lost(error: requests.RequestException | HTTPError, seconds: float) -> CallError:
    """What a failure of the connection is called."""
    if isinstance(error, requests.ReadTimeout | ReadTimeoutError):
        return CallError("time-out", f"no answer within {seconds:g} s", away=True)
    if isinstance(error, HTTPError):
        return CallError("connection lost", "the connection broke amid the answer", away=True)
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):
        return CallError("unreachable", f"no connection: {reason}", away=True)
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError):
        return CallError("unreachable", "no connection", away=True)
    if isinstance(error, requests.ConnectionError):
        return CallError("connection lost", "the connection broke", away=True)
    return CallError("bad request", str(error), retry=False)
