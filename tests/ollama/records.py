"""Remembers every request, so that a test can ask who was asked for what."""

import hashlib
import threading
import time
from typing import Any

from tests.ollama import bodies
from tests.ollama.errors import ApiError


class Records:
    """The requests so far, in the order of their arrival."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def begin(self, entry: dict[str, Any], method: str, path: str) -> None:
        """Makes `entry` the newest, which the server fills in as it goes on."""
        blank = {
            "method": method,
            "path": path,
            "model": "",
            "prompt": "",
            "system": "",
            "images": 0,
            "image_sha256": [],
            "body": None,
            "status": None,
            "answer": "",
            "started": time.time(),
            "turn": None,
            "turn_end": None,
            "finished": None,
        }
        entry.update(blank)
        with self._lock:
            self._entries.append(entry)

    def all(self) -> list[dict[str, Any]]:
        """A copy of all entries; `status` and `finished` are None while one is in progress.

        `turn` and `turn_end` are when a request got and left one of the parallel places.
        """
        with self._lock:
            return [dict(entry) for entry in self._entries]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._entries.clear()


def describe(entry: dict[str, Any], body: dict[str, Any]) -> None:
    """Fills in what a (native) request asks for; `body` is kept without its images."""
    messages = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    said = {
        message.get("role"): message.get("content", "")
        for message in messages
        if message.get("content")
    }
    entry["model"] = body.get("model") or body.get("name") or ""
    entry["prompt"] = body.get("prompt") or said.get("user", "")
    entry["system"] = body.get("system") or said.get("system", "")
    entry["image_sha256"] = [
        hashlib.sha256(data).hexdigest() for holder in (body, *messages) for data in _images(holder)
    ]
    entry["images"] = len(entry["image_sha256"])
    dropped = ("images", "messages")
    entry["body"] = {key: value for key, value in body.items() if key not in dropped}


def _images(holder: dict[str, Any]) -> list[bytes]:
    try:
        return bodies.images(holder)
    except (ApiError, AttributeError, TypeError):
        return []
