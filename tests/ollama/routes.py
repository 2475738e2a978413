"""The native endpoints that run a model: generate and chat."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.ollama import bodies, engine
from tests.ollama.errors import ApiError
from tests.ollama.language import token_ids
from tests.ollama.library import Library, Model
from tests.ollama.reply import Reply


@dataclass
class Context:
    """What a request handler works with."""

    library: Library
    delay: float = 0.0
    pull_seconds: float = 0.0
    version: str = "0.13.0"


Entry = dict[str, Any]


def generate(context: Context, body: dict[str, Any], reply: Reply, entry: Entry) -> None:
    """POST /api/generate."""
    pictures = bodies.images(body)
    messages = [engine.message("user", body.get("prompt") or "", pictures)]
    if body.get("system"):
        messages.insert(0, engine.message("system", body["system"], []))
    asked = bool(body.get("prompt"))
    _run(context, body, _Shape(reply, body, _generated), messages if asked else [], entry)


def chat(context: Context, body: dict[str, Any], reply: Reply, entry: Entry) -> None:
    """POST /api/chat."""
    messages = [
        engine.message(said.get("role", "user"), said.get("content") or "", bodies.images(said))
        for said in body.get("messages") or []
    ]
    _run(context, body, _Shape(reply, body, _chatted), messages, entry)


def _generated(text: str) -> dict[str, Any]:
    return {"response": text}


def _chatted(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


class _Shape:
    """The events of one answer, streamed or gathered into one document."""

    def __init__(self, reply: Reply, body: dict[str, Any], wrap: Any) -> None:
        self.reply = reply
        self.name = body["model"] if isinstance(body.get("model"), str) else ""
        self.wrap = wrap
        self.streaming = body.get("stream", True) is not False
        self.text = ""

    def event(self, text: str, done: bool, **facts: Any) -> dict[str, Any]:
        created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        facts = {key: value for key, value in facts.items() if value}
        return {"model": self.name, "created_at": created, **self.wrap(text), "done": done, **facts}

    def piece(self, text: str) -> bool:
        self.text += text
        return self.reply.line(self.event(text, False)) if self.streaming else True

    def last(self, **facts: Any) -> None:
        if self.streaming:
            self.reply.line(self.event("", True, **facts))
        else:
            self.reply.json(200, self.event(self.text, True, **facts))


def _run(
    context: Context,
    body: dict[str, Any],
    shape: _Shape,
    messages: list[dict[str, Any]],
    entry: Entry,
) -> None:
    started = time.monotonic_ns()
    keep = bodies.keep_alive(body)
    model = context.library.find(shape.name)
    if not messages and keep == 0:
        context.library.unload(model)
        shape.reply.json(200, shape.event("", True, done_reason="unload"))
        return
    if body.get("think"):
        raise ApiError(400, f'"{shape.name}" does not support thinking')
    options = body.get("options") or {}
    fields = engine.settings(options, body.get("format"))
    with context.library.turn(entry):
        keep = bodies.DEFAULT_KEEP_ALIVE if keep is None else keep
        loaded = context.library.load(model, keep, options.get("num_ctx"))
        load_ns = time.monotonic_ns() - started
        if not messages:
            shape.reply.json(200, shape.event("", True, done_reason="load"))
            return
        time.sleep(context.delay)
        finish = loaded.engine.answer(messages, fields, shape.piece)
        entry["answer"] = shape.text
    if keep == 0:
        context.library.unload(model)
    shape.last(
        done_reason=finish.reason,
        context=_tokens(messages, shape.text) if "response" in shape.wrap("") else None,
        total_duration=time.monotonic_ns() - started,
        load_duration=load_ns,
        prompt_eval_count=finish.prompt_tokens,
        prompt_eval_duration=finish.prompt_ns,
        eval_count=finish.answer_tokens,
        eval_duration=finish.answer_ns,
    )


def _tokens(messages: list[dict[str, Any]], answer: str) -> list[int]:
    """The conversation so far as tokens, the pictures left out."""
    said = "".join(f"<|{m['role']}|>{_text(m['content'])}<|end|>" for m in messages)
    return token_ids(f"{said}<|assistant|>{answer}")


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else content[-1]["text"]


def details(model: Model) -> dict[str, Any]:
    """The `details` of tags, ps and show."""
    families = ["llama", "clip"] if model.projector_file else ["llama"]
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": families,
        "parameter_size": f"{model.size / 4e3:.2f}K",
        "quantization_level": "F32",
    }
