"""Ollama's own protocol (https://github.com/ollama/ollama, docs/api.md)."""

from typing import Any

from tasks.captions.client import PICTURE, CallError, Server, drain, objects, parsed, with_picture
from tasks.captions.protocols.base import Answer, Progress, Protocol, Question

IDLE_SECONDS = 300.0
"""A download in which nothing is heard for so long is given up."""
SEED = 0
"""Counts only at a temperature above 0."""


def canonical(name: str) -> str:
    """Ollama compares names without case, and adds `:latest` where there is no tag."""
    plain = name.strip().lower()
    return plain if ":" in plain.rpartition("/")[2] else f"{plain}:latest"


def models(server: Server, seconds: float) -> dict[str, str]:
    """The sha256 digest of every installed model."""
    found = objects(server.get("/api/tags", seconds), "models")
    named = [model for model in found if "name" in model]
    return {canonical(str(model["name"])): str(model.get("digest", "")) for model in named}


def version(server: Server, seconds: float) -> str:
    """The version of the server."""
    return str(server.get("/api/version", seconds).get("version", ""))


def capabilities(server: Server, model: str, seconds: float) -> frozenset[str] | None:
    """As the server derives them from the model's files; old servers tell none."""
    found = server.post("/api/show", {"model": model}, seconds).get("capabilities")
    return frozenset(map(str, found)) if isinstance(found, list) else None


def ask(server: Server, question: Question, seconds: float) -> Answer:
    """Streams an answer, so that a server that breaks amid it is noticed at once."""
    body: dict[str, Any] = {
        "images": [PICTURE],
        "model": question.model,
        "prompt": question.user_prompt,
        "system": question.system_prompt,
        "options": {
            "temperature": question.temperature,
            "num_predict": question.max_tokens,
            "seed": SEED,
        },
        "stream": True,
    }
    if question.json_schema is not None:
        body["format"] = question.json_schema
    if question.think is not None:
        body["think"] = question.think
    text: list[str] = []
    lines = server.stream("/api/generate", with_picture(body, question.jpeg), seconds)
    for line in lines:
        part = _checked(parsed(line))
        text.append(str(part.get("response") or ""))
        if part.get("done"):
            drain(lines)
            return Answer("".join(text), str(part.get("done_reason") or "stop"))
    raise CallError("half an answer", "the answer ended before it was done")


def pull(server: Server, model: str, progress: Progress) -> None:
    """Downloads a model; what was downloaded before is not downloaded again."""
    layers: dict[str, tuple[int, int]] = {}
    body = {"model": model, "stream": True}
    lines = server.stream("/api/pull", body, IDLE_SECONDS, idle=True)
    for line in lines:
        part = _checked(parsed(line))
        if part.get("status") == "success":
            drain(lines)
            return
        total, done = part.get("total"), part.get("completed", 0)
        if "digest" in part and isinstance(total, int) and isinstance(done, int):
            layers[str(part["digest"])] = done, total
            progress(*map(sum, zip(*layers.values(), strict=True)))
    raise CallError("half an answer", "the download ended before it was done")


def unload(server: Server, model: str, seconds: float) -> None:
    """An empty prompt with keep_alive 0 takes the model out of memory."""
    server.post("/api/generate", {"model": model, "keep_alive": 0, "stream": False}, seconds)


def _checked(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a stream; after the first byte, an error is such a part."""
    if "error" in part:
        raise CallError("error amid the answer", str(part["error"]))
    return part


OLLAMA = Protocol(
    canonical=canonical,
    models=models,
    version=version,
    capabilities=capabilities,
    ask=ask,
    pull=pull,
    unload=unload,
)
