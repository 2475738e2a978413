"""Real inference: llama.cpp's own server engine, in this process, on one model's GGUF files."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp
from PIL import Image

from tests.ollama.errors import ApiError, from_engine
from tests.ollama.gguf_model import CONTEXT

# The defaults of the protocol, where they are not those of the engine.
DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.1}
PASSED_ON = (
    *DEFAULTS,
    "seed",
    "stop",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "typical_p",
)


@dataclass(frozen=True)
class Finish:
    """How an answer ended: the reason, and tokens and nanoseconds of prompt and answer."""

    reason: str
    prompt_tokens: int
    prompt_ns: int
    answer_tokens: int
    answer_ns: int


class Engine:
    """A loaded model with `parallel` slots, on one thread; safe to call from many threads."""

    def __init__(self, text_model: Path, projector: Path | None, parallel: int = 1) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(text_model)
        if projector:
            params.mmproj.path = str(projector)
        params.n_ctx = CONTEXT * parallel
        params.n_parallel = parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_ram_mib = 0
        params.warmup = False
        params.fit_params = False
        params.verbosity = 0
        params.port = 0
        self._server = xllamacpp.Server(params)
        # One that is freed before its loop runs would hang for ever; an answer proves that it runs.
        self.answer([message("user", "", [])], {"max_tokens": 1}, lambda text: True)

    def answer(
        self,
        messages: list[dict[str, Any]],
        settings: dict[str, Any],
        on_text: Callable[[str], bool],
    ) -> Finish:
        """Answers a chat; `on_text` gets each piece and returns whether anyone still listens."""
        last: dict[str, Any] = {}

        def receive(chunk: Any) -> bool:
            for event in chunk if isinstance(chunk, list) else [chunk]:
                if "error" in event:
                    last["error"] = event["error"]
                    continue
                last.update({key: event[key] for key in ("timings",) if key in event})
                for choice in event["choices"]:
                    last["reason"] = choice["finish_reason"] or last.get("reason")
                    text = choice["delta"].get("content")
                    if text and not on_text(text):
                        return True
            return False

        body = {"messages": messages, "stream": True, "cache_prompt": False, **settings}
        try:
            self._server.handle_chat_completions(body, receive)
        except RuntimeError as error:
            message = {"code": 500, "message": str(error), "type": "server_error"}
            raise from_engine(message) from error
        if "error" in last:
            raise from_engine(last["error"])
        return _finish(last)


def _finish(last: dict[str, Any]) -> Finish:
    times = last.get("timings", {})
    return Finish(
        last.get("reason") or "stop",
        times.get("prompt_n", 0) + times.get("cache_n", 0),
        int(times.get("prompt_ms", 0) * 1e6),
        times.get("predicted_n", 0),
        int(times.get("predicted_ms", 0) * 1e6),
    )


def settings(options: dict[str, Any], form: Any) -> dict[str, Any]:
    """The protocol's options and `format` as the engine's request fields."""
    chosen = {**DEFAULTS, **options}
    fields = {key: chosen[key] for key in PASSED_ON if key in chosen}
    fields["max_tokens"] = chosen.get("num_predict", -1)
    if form in (None, ""):
        return fields
    if form == "json":
        return {**fields, "response_format": {"type": "json_object"}}
    if isinstance(form, dict):
        schema = {"name": "answer", "schema": form}
        return {**fields, "response_format": {"type": "json_schema", "json_schema": schema}}
    given = json.dumps(json.dumps(form))
    raise ApiError(500, f'invalid format: {given}; expected "json" or a valid JSON Schema object')


def message(role: str, text: str, images: list[bytes]) -> dict[str, Any]:
    """One message as the engine takes it."""
    if not images:
        return {"role": role, "content": text}
    urls = [
        f"data:image/png;base64,{base64.b64encode(_readable(data)).decode()}" for data in images
    ]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": role, "content": [*parts, {"type": "text", "text": text}]}


def _readable(data: bytes) -> bytes:
    """The engine reads no WebP; the server makes PNG of it."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return data
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "PNG")
    return buffer.getvalue()
