"""The OpenAI-compatible endpoints: a translation around chat, as in the real server."""

import json
import random
import time
from datetime import datetime
from typing import Any

from tests.ollama import routes
from tests.ollama.bodies import images
from tests.ollama.errors import ApiError
from tests.ollama.library import Library
from tests.ollama.reply import Reply
from tests.ollama.routes import Context, Entry

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_PREFIXES = ["data:;base64,"] + [f"data:image/{t};base64," for t in ("jpeg", "jpg", "png", "webp")]
_OPTIONS = ("seed", "temperature", "top_p", "frequency_penalty", "presence_penalty")


class OpenAiReply(Reply):
    """Takes the events of a chat and sends them in the other protocol."""

    stream_type = "text/event-stream"

    def __init__(self, handler: Any, done: Any) -> None:
        super().__init__(handler, done)
        self.identity = f"chatcmpl-{random.randrange(1000)}"
        self.with_usage = False

    def error(self, status: int, text: str) -> None:
        """An error document of the other protocol."""
        kind = _TYPES.get(status, "api_error")
        error = {"message": text, "type": kind, "param": None, "code": None}
        if self.started:
            self.chunk(f"data: {json.dumps({'error': error})}\n\n".encode())
        else:
            super().json(status, {"error": error})

    def json(self, status: int, document: Any) -> None:
        """A whole answer."""
        choice = {
            "index": 0,
            "message": document["message"],
            "finish_reason": document.get("done_reason"),
        }
        head = self._head(document["model"], "chat.completion")
        super().json(status, {**head, "choices": [choice], "usage": _usage(document)})

    def line(self, document: dict[str, Any]) -> bool:
        """One event of a stream, and after the last one the usage and the end mark."""
        choice = {
            "index": 0,
            "delta": document["message"],
            "finish_reason": document.get("done_reason"),
        }
        head = self._head(document["model"], "chat.completion.chunk")
        events = [json.dumps({**head, "choices": [choice]})]
        if document["done"]:
            if self.with_usage:
                events.append(json.dumps({**head, "choices": [], "usage": _usage(document)}))
            events.append("[DONE]")
        return self.chunk("".join(f"data: {event}\n\n" for event in events).encode())

    def _head(self, model: str, kind: str) -> dict[str, Any]:
        return {
            "id": self.identity,
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": "fp_ollama",
        }


def _usage(document: dict[str, Any]) -> dict[str, int]:
    prompt, answer = document.get("prompt_eval_count", 0), document.get("eval_count", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def models(library: Library) -> dict[str, Any]:
    """GET /v1/models."""
    data = [
        {
            "id": model.name,
            "object": "model",
            "created": int(datetime.fromisoformat(model.modified).timestamp()),
            "owned_by": "library",
        }
        for model in library.installed()
    ]
    return {"object": "list", "data": data}


def completions(context: Context, body: dict[str, Any], reply: OpenAiReply, entry: Entry) -> None:
    """POST /v1/chat/completions; `body` is already the native one."""
    reply.with_usage = bool(body.pop("include_usage", False))
    routes.chat(context, body, reply, entry)


def native_body(body: dict[str, Any]) -> dict[str, Any]:
    """The chat request of the native protocol that says the same."""
    if not body.get("messages"):
        raise ApiError(400, "[] is too short - 'messages'")
    options = {"temperature": 1.0, "top_p": 1.0}
    options |= {key: body[key] for key in _OPTIONS if body.get(key) is not None}
    if body.get("stop"):
        options["stop"] = [body["stop"]] if isinstance(body["stop"], str) else body["stop"]
    if body.get("max_tokens") is not None:
        options["num_predict"] = body["max_tokens"]
    return {
        "model": body.get("model") or "",
        "messages": [part for said in body["messages"] for part in _parts(said)],
        "options": options,
        "format": _form(body.get("response_format") or {}),
        "stream": bool(body.get("stream")),
        "include_usage": (body.get("stream_options") or {}).get("include_usage"),
    }


def _form(wanted: dict[str, Any]) -> Any:
    if wanted.get("type") == "json_schema":
        return wanted["json_schema"]["schema"]
    return "json" if wanted.get("type") == "json_object" else None


def _parts(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Each part of a message becomes a message of its own, as in the real server."""
    role, content = said.get("role", "user"), said.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list):
        raise ApiError(400, "invalid message content type: <nil>")
    return [_part(role, part) for part in content]


def _part(role: str, part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text" and isinstance(part.get("text"), str):
        return {"role": role, "content": part["text"]}
    if part.get("type") != "image_url":
        raise ApiError(400, "invalid message format")
    url = part["image_url"]["url"] if isinstance(part["image_url"], dict) else part["image_url"]
    prefix = next((prefix for prefix in _PREFIXES if url.startswith(prefix)), None)
    if prefix is None:
        raise ApiError(400, "invalid image input")
    picture = {"role": role, "images": [url.removeprefix(prefix)]}
    try:
        images(picture)
    except ApiError as error:
        raise ApiError(400, "invalid message format") from error
    return picture
